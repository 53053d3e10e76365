"""Enqueues on request: entities, packs of pictures, everything that is missing, and comparisons of whole tables."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import query
from matching_pipeline.errors import ConfigurationError


class NotFound(Exception):
    """No row has the key that a person named."""


def enqueue_entities(connection: Connection, source: str, keys: Iterable[str]) -> int:
    """Enqueues all items of these entities, embedded already or not. Returns how many.

    Raises NotFound, and enqueues nothing then.
    """
    if connection.execute(query("has_pictures"), {"source": source}).fetchone() is None:
        raise NotFound(f"there is no source {source}")
    with connection.transaction():
        return sum(_enqueue(connection, query("enqueue_entities"), f"the source {source}", source=source, keys=keys))


def enqueue_packs(connection: Connection, source: str, keys: Iterable[str]) -> int:
    """Asks for a complete pack for each of these entities. Returns how many.

    Raises NotFound, and enqueues nothing then.
    """
    row = connection.execute(query("generating_queue")).fetchone()
    if row is None:
        raise ConfigurationError(
            "no source has generated images: declare GeneratedImages, then run `matching-pipeline attach`"
        )
    with connection.transaction():
        place = f"the source {source}"
        return len(_enqueue(connection, query("request_packs"), place, source=source, keys=keys, queue=row[0]))


def enqueue_missing(connection: Connection, queue: str | None = None) -> int:
    """Enqueues the items of a queue, or of all, that have no current result, no waiting job and no failed one.

    Returns how many.
    """
    ((queued,),) = connection.execute(query("enqueue_missing"), {"queue": queue}).fetchall()
    return int(queued)


def enqueue_looks(connection: Connection, age: timedelta) -> int:
    """Enqueues the pictures that were fetched longer ago than that; returns how many."""
    ((queued,),) = connection.execute(query("enqueue_looks"), {"age": age}).fetchall()
    return int(queued)


def enqueue_resync(connection: Connection, source: str | None = None) -> None:
    """Has workers compare the table of a source, or of all, with the mirror."""
    connection.execute(query("enqueue_resync"), {"source": source})


def enqueue_due_resyncs(connection: Connection) -> list[str]:
    """Enqueues the comparison of each table that was enqueued last more than a day ago; returns the sources.

    It does so too with the tables of the app into which matchers publish.
    """
    connection.execute(query("enqueue_due_publications"))
    return [source for (source,) in connection.execute(query("enqueue_due_resyncs")).fetchall()]


def _enqueue(
    connection: Connection, statement: bytes, place: str, *, keys: Iterable[str], **parameters: str
) -> list[Any]:
    answers: dict[str, Any] = dict(connection.execute(statement, {**parameters, "keys": list(keys)}).fetchall())
    for key, answer in answers.items():
        if answer is None:
            raise NotFound(f"there is no row {key} in {place}")
    return list(answers.values())
