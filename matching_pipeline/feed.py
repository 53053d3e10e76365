"""New pairs as they come: what `sql/functions/6_feed.sql` announces on the channel `matches`."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

from psycopg.rows import class_row

from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import query


@dataclass(frozen=True)
class NewPair:
    kind: str
    one_id: UUID
    """a project, or the face with the lower id"""
    other_id: UUID
    similarity: float


@dataclass(frozen=True)
class Announcement:
    """What one statement added: how many pairs of a kind and, where they are few, which of them still stand."""

    kind: str
    count: int
    pairs: list[NewPair]


def announcements(connection: Connection, timeout: float | None = None) -> Iterator[Announcement]:
    """Everything that is announced from the first `next` on, until nothing has come for `timeout` seconds."""
    connection.execute(query("listen_to_matches"))
    while True:
        # a statement cannot run while notifications are being read
        heard = [json.loads(notice.payload) for notice in connection.notifies(timeout=timeout, stop_after=1)]
        if not heard:
            return
        for message in heard:
            pairs = _pairs(connection, message["ids"] or [])
            yield Announcement(message["kind"], message["pairs"], pairs)


def _pairs(connection: Connection, ids: list[str]) -> list[NewPair]:
    with connection.cursor(row_factory=class_row(NewPair)) as cursor:
        return cursor.execute(query("announced_pairs"), {"ids": ids}).fetchall()
