"""Queues on request: the images of projects and products, packs of pictures, and everything that is missing."""

from collections.abc import Iterable
from typing import Any, Literal
from uuid import UUID

from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import query


class NotFound(Exception):
    """No row has the id that a person named."""


def enqueue_images(connection: Connection, projects: Iterable[UUID], products: Iterable[UUID]) -> int:
    """Queues all images of these projects and products, analysed already or not. Returns how many.

    Raises NotFound, and queues nothing then.
    """
    with connection.transaction():
        images = _enqueue(connection, projects, query("is_project"), query("enqueue_project_images"), "project {}")
        images += _enqueue(connection, products, query("is_product"), query("enqueue_product_images"), "product {}")
        return sum(images)


def enqueue_packs(connection: Connection, projects: Iterable[UUID]) -> int:
    """Asks for a complete pack for each of these rows of `projects`. Returns how many.

    Raises NotFound, and queues nothing then.
    """
    with connection.transaction():
        exists, statement = query("is_studio_project"), query("enqueue_complete_pack")
        return len(_enqueue(connection, projects, exists, statement, "row {} in projects"))


def enqueue_missing(connection: Connection, what: Literal["images", "postings"] | None = None) -> int:
    """Queues images and postings, or one of both, that have no current result, no waiting job and no failed one.

    Returns how many.
    """
    statements = {
        "images": query("enqueue_missing_images"),
        "postings": query("enqueue_missing_postings"),
        None: query("enqueue_missing"),
    }
    return int(_only_value(connection, statements[what]))


def _enqueue(
    connection: Connection, ids: Iterable[UUID], exists: bytes, statement: bytes, described: str
) -> list[Any]:
    """What the statement returns for each id."""
    answers = []
    for id in ids:
        if not _only_value(connection, exists, id):
            raise NotFound(f"there is no {described.format(id)}")
        answers.append(_only_value(connection, statement, id))
    return answers


def _only_value(connection: Connection, statement: bytes, id: UUID | None = None) -> Any:
    row = connection.execute(statement, {"id": id}).fetchone()
    assert row is not None
    return row[0]
