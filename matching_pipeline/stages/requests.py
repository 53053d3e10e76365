"""What a person may ask for: the field's processProjectImages, processProductImages and the backfill."""

from collections.abc import Iterable
from typing import Literal
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


def enqueue_missing(connection: Connection, what: Literal["images", "postings"] | None = None) -> int:
    """Queues everything, or all of a kind, that has no up-to-date result and neither waits nor has failed; returns
    how many."""
    row = connection.execute(query(f"enqueue_missing_{what}" if what else "enqueue_missing")).fetchone()
    assert row is not None
    return int(row[0])


def forget_orphans(connection: Connection) -> int:
    """Removes what was derived from images that are gone or no longer a project's, and from postings that are not
    active; returns how many rows."""
    return sum(connection.execute(query(f"forget_orphan_{what}")).rowcount for what in ("images", "embeddings"))


def _enqueue(connection: Connection, kind: str, id: UUID) -> int:
    if connection.execute(query(f"is_{kind}"), {"id": id}).fetchone() != (True,):
        raise NotFound(f"there is no {kind} {id}")
    row = connection.execute(query(f"enqueue_{kind}_images"), {"id": id}).fetchone()
    assert row is not None
    return int(row[0])
