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
    """Deletes results and jobs without a source. Returns how many.

    Results: of images that are deleted or whose listing is not a project any more, and of postings that are deleted
    or inactive. Jobs: of deleted faces, and of a shadow model that there is not.
    """
    return (
        connection.execute(query("delete_orphan_images")).rowcount
        + connection.execute(query("delete_orphan_embeddings")).rowcount
        + connection.execute(query("forget_jobs_of_deleted_faces"), {"face_ids": None}).rowcount
        + forget_work_of_no_model(connection)
    )


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
