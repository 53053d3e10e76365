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
        images = _enqueue(connection, query("enqueue_project_images"), projects, "project {}")
        images += _enqueue(connection, query("enqueue_product_images"), products, "product {}")
        return sum(images)


def enqueue_packs(connection: Connection, projects: Iterable[UUID]) -> int:
    """Asks for a complete pack for each of these rows of `projects`. Returns how many.

    Raises NotFound, and queues nothing then.
    """
    with connection.transaction():
        return len(_enqueue(connection, query("enqueue_complete_packs"), projects, "row {} in projects"))


def enqueue_missing(connection: Connection, what: Literal["images", "postings"] | None = None) -> int:
    """Queues images and postings, or one of both, that have no current result, no waiting job and no failed one.

    Returns how many.
    """
    statements = {
        "images": query("enqueue_missing_images"),
        "postings": query("enqueue_missing_postings"),
        None: query("enqueue_missing"),
    }
    ((queued,),) = connection.execute(statements[what]).fetchall()
    return int(queued)


def _enqueue(connection: Connection, statement: bytes, ids: Iterable[UUID], described: str) -> list[Any]:
    answers: dict[UUID, Any] = dict(connection.execute(statement, {"ids": list(ids)}).fetchall())
    for id, answer in answers.items():
        if answer is None:
            raise NotFound(f"there is no {described.format(id)}")
    return list(answers.values())
