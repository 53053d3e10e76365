"""What a person may ask for: the field's processProjectImages, processProductImages and the backfill."""

from collections.abc import Iterable
from uuid import UUID

from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import query


class NotFound(Exception):
    """No project or product has this id."""


def enqueue_images(connection: Connection, projects: Iterable[UUID], products: Iterable[UUID]) -> int:
    """Queues all images of these projects and products, processed already or not; returns how many.

    Raises NotFound, with nothing queued.
    """
    with connection.transaction():
        return sum(_enqueue(connection, "project", id) for id in projects) + sum(
            _enqueue(connection, "product", id) for id in products
        )


def enqueue_missing(connection: Connection) -> int:
    """Queues every image without an up-to-date row that neither waits nor has failed; returns how many."""
    row = connection.execute(query("enqueue_missing")).fetchone()
    assert row is not None
    return int(row[0])


def forget_orphans(connection: Connection) -> int:
    """Removes rows of `image_ai` whose image is gone or no longer a project's, and work owed to faces that are gone;
    returns how many."""
    images = connection.execute(query("forget_orphans")).rowcount
    return images + connection.execute(query("forget_jobs_of_deleted_faces"), {"face_ids": None}).rowcount


def _enqueue(connection: Connection, kind: str, id: UUID) -> int:
    if connection.execute(query(f"is_{kind}"), {"id": id}).fetchone() != (True,):
        raise NotFound(f"there is no {kind} {id}")
    row = connection.execute(query(f"enqueue_{kind}_images"), {"id": id}).fetchone()
    assert row is not None
    return int(row[0])
