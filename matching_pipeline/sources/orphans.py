"""Deletes what was derived from rows of the app that are gone."""

from datetime import timedelta
from itertools import islice

from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import query
from matching_pipeline.models.registry import forget_work_of_no_model
from matching_pipeline.pictures.store import PictureStore

ORPHAN_AGE = timedelta(days=1)
"""Far longer than a worker takes between a picture's file and its row."""


def delete_orphan_rows(connection: Connection) -> int:
    """Deletes jobs of a source that is forgotten, jobs of a shadow model that there is not, and product pictures and
    their jobs whose entity is gone. Returns how many jobs and entities."""
    ((gone,),) = connection.execute(query("erase_entities_without_row")).fetchall()
    return int(gone) + connection.execute(query("orphaned_jobs")).rowcount + forget_work_of_no_model(connection)


def delete_orphan_files(connection: Connection, store: PictureStore) -> int:
    """Deletes pictures without a row that are older than a day. Returns how many.

    They are of deleted projects, were replaced, or were made by a worker that died before it wrote the row.
    """
    deleted = 0
    urls = store.list(older_than=ORPHAN_AGE)
    while batch := list(islice(urls, 500)):
        for (url,) in connection.execute(query("pictures_without_row"), {"urls": batch}).fetchall():
            deleted += store.delete(url, older_than=ORPHAN_AGE)
    return deleted
