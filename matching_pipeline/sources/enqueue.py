"""What a person may ask for: the field's processProjectImages, processProductImages and the backfill."""

from collections.abc import Iterable
from datetime import timedelta
from itertools import islice
from typing import Literal
from uuid import UUID

from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import query
from matching_pipeline.models.registry import forget_work_of_no_model
from matching_pipeline.pictures.store import PictureStore

ORPHAN_AGE = timedelta(days=1)
"""Far longer than any worker takes from a picture's file to its row."""


class NotFound(Exception):
    """Nothing of the kind that was named has this id."""


def enqueue_images(connection: Connection, projects: Iterable[UUID], products: Iterable[UUID]) -> int:
    """Queues all images of these projects and products, processed already or not; returns how many.

    Raises NotFound, with nothing queued.
    """
    with connection.transaction():
        return sum(_enqueue(connection, "project", id) for id in projects) + sum(
            _enqueue(connection, "product", id) for id in products
        )


def enqueue_missing(connection: Connection, what: Literal["images", "postings"] | None = None) -> int:
    """Queues everything, or all of a kind, that has no up-to-date result and neither waits nor has failed; returns
    how many."""
    row = connection.execute(query(f"enqueue_missing_{what}" if what else "enqueue_missing")).fetchone()
    assert row is not None
    return int(row[0])


def forget_orphans(connection: Connection) -> int:
    """Removes what was derived from images that are gone or no longer a project's, and from postings that are not
    active, and work owed to faces that are gone or a shadow that there is not; returns how many rows."""
    orphans = sum(connection.execute(query(f"forget_orphan_{what}")).rowcount for what in ("images", "embeddings"))
    orphans += forget_work_of_no_model(connection)
    return orphans + connection.execute(query("forget_jobs_of_deleted_faces"), {"face_ids": None}).rowcount


def enqueue_packs(connection: Connection, projects: Iterable[UUID]) -> int:
    """Asks for a complete pack for each of these rows of `projects`; returns how many.

    Raises NotFound, with nothing queued.
    """
    with connection.transaction():
        asked = 0
        for id in projects:
            if connection.execute(query("is_picture_project"), {"id": id}).fetchone() != (True,):
                raise NotFound(f"there is no row {id} in projects")
            connection.execute(query("enqueue_complete_pack"), {"id": id})
            asked += 1
        return asked


def forget_orphan_pictures(connection: Connection, store: PictureStore) -> int:
    """Deletes the files that no row names and that are older than a day: of projects that were deleted, of pictures
    that were made anew, and of workers that died before they wrote the row. Returns how many."""
    forgotten = 0
    urls = store.list(older_than=ORPHAN_AGE)
    while batch := list(islice(urls, 500)):
        for (url,) in connection.execute(query("pictures_without_row"), {"urls": batch}).fetchall():
            forgotten += store.delete(url, older_than=ORPHAN_AGE)
    return forgotten


def _enqueue(connection: Connection, kind: str, id: UUID) -> int:
    if connection.execute(query(f"is_{kind}"), {"id": id}).fetchone() != (True,):
        raise NotFound(f"there is no {kind} {id}")
    row = connection.execute(query(f"enqueue_{kind}_images"), {"id": id}).fetchone()
    assert row is not None
    return int(row[0])
