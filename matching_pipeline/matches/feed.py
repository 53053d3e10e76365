"""New pairs as they come: the announcements of `sql/repeatable/6_feed.sql` on the channel `matches`."""

from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

from psycopg.rows import class_row
from pydantic import BaseModel, ValidationError

from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import query


@dataclass(frozen=True)
class NewPair:
    matcher: str
    left_key: str
    right_key: str
    similarity: float


@dataclass(frozen=True)
class Announcement:
    """The number of pairs of a matcher that one statement added, and the best of them that still exist."""

    matcher: str
    count: int
    pairs: list[NewPair]


class _Message(BaseModel):
    matcher: str
    pairs: int
    ids: list[UUID]


def announcements(connection: Connection, timeout: float | None = None) -> Iterator[Announcement]:
    """All announcements from now on, until none has come for `timeout` seconds."""
    connection.execute(query("listen_to_matches"))
    return _heard(connection, timeout)


def _heard(connection: Connection, timeout: float | None) -> Iterator[Announcement]:
    # a statement cannot run while notifications are being read
    while notices := list(connection.notifies(timeout=timeout, stop_after=1)):
        for notice in notices:
            try:
                message = _Message.model_validate_json(notice.payload)
            except ValidationError:
                # every role may notify, on any channel
                continue
            yield Announcement(message.matcher, message.pairs, _pairs(connection, message.ids))


def _pairs(connection: Connection, ids: list[UUID]) -> list[NewPair]:
    with connection.cursor(row_factory=class_row(NewPair)) as cursor:
        return cursor.execute(query("announced_pairs"), {"ids": ids}).fetchall()
