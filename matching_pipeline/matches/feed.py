"""Receives the announcements of new pairs: `sql/repeatable/6_feed.sql` sends them on the channel `matches`."""

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
    """The number of pairs of a matcher that one statement added, and those of its best 100 that still exist."""

    matcher: str
    count: int
    best: list[NewPair]


class _Message(BaseModel):
    matcher: str
    pairs: int
    ids: list[UUID]


def announcements(connection: Connection, timeout: float | None = None) -> Iterator[Announcement]:
    """The announcements from now on. It ends when none has come for `timeout` seconds, or never.

    Statements under `matching_pipeline.notify = off` announce nothing.
    """
    connection.execute(query("listen_to_matches"))
    return _received(connection, timeout)


def _received(connection: Connection, timeout: float | None) -> Iterator[Announcement]:
    # one at a time, as no statement can run while notifications are being read
    while notices := list(connection.notifies(timeout=timeout, stop_after=1)):
        for notice in notices:
            try:
                message = _Message.model_validate_json(notice.payload)
            except ValidationError:
                # any role can send on this channel: a message of another form is ignored
                continue
            yield Announcement(message.matcher, message.pairs, _pairs(connection, message.ids))


def _pairs(connection: Connection, ids: list[UUID]) -> list[NewPair]:
    with connection.cursor(row_factory=class_row(NewPair)) as cursor:
        return cursor.execute(query("announced_pairs"), {"ids": ids}).fetchall()
