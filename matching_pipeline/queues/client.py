"""The queue's verbs over one connection. What they mean is in `sql/functions/1_queue.sql`."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

from psycopg.rows import class_row

from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import query

WAKE_ALL = "stop"
"""The NOTIFY payload that tells every waiting sensor and drain to look up and leave."""


@dataclass(frozen=True)
class Item:
    """One claimed row; (id, attempt) names its lease."""

    id: UUID
    entity_kind: str
    entity_id: UUID
    payload: dict[str, Any] = field(hash=False)
    attempt: int


@dataclass(frozen=True)
class LaneState:
    due: bool
    seconds_to_next: float | None
    """Until the earliest row may be claimed; negative when it is due, None where the lane is empty."""
    drains: int


def enqueue(connection: Connection, lane: str, kind: str, ids: Iterable[UUID]) -> int:
    return int(_scalar(connection, "enqueue", lane=lane, kind=kind, ids=list(ids)))


def claim(connection: Connection, lane: str, batch_size: int, lease: timedelta) -> list[Item]:
    with connection.cursor(row_factory=class_row(Item)) as cursor:
        return cursor.execute(query("claim"), {"lane": lane, "batch_size": batch_size, "lease": lease}).fetchall()


def renew(connection: Connection, items: Sequence[Item], lease: timedelta) -> set[UUID]:
    """Lengthens the leases and returns the ids of those that still were ours."""
    return _ids(connection, "renew", items, lease=lease)


def complete(connection: Connection, items: Sequence[Item]) -> set[UUID]:
    """Completes the items and returns the ids of those that still were ours: only their results may be written."""
    return _ids(connection, "complete", items)


def fail(connection: Connection, item: Item, reason: str, *, permanent: bool) -> bool:
    """Charges the attempt; says whether the item still was ours."""
    return bool(_scalar(connection, "fail", id=item.id, attempt=item.attempt, reason=reason, permanent=permanent))


def defer(connection: Connection, items: Sequence[Item], delay: timedelta, reason: str | None) -> set[UUID]:
    """Gives the items back, no attempt charged."""
    return _ids(connection, "defer", items, delay=delay, reason=reason)


def defer_lane(connection: Connection, lane: str, delay: timedelta, reason: str) -> int:
    return int(_scalar(connection, "defer_lane", lane=lane, delay=delay, reason=reason))


def retry(connection: Connection, lane: str, ids: Sequence[UUID] | None = None) -> int:
    """Makes failed items pending with fresh attempts, all of the lane or those named; returns how many."""
    return int(_scalar(connection, "retry", lane=lane, ids=None if ids is None else list(ids)))


def purge(connection: Connection, keep: timedelta) -> int:
    """Deletes what completed longer ago than `keep`, in small batches; returns how many."""
    purged = 0
    while batch := _scalar(connection, "purge", keep=keep):
        purged += batch
    return purged


def status(connection: Connection, lane: str) -> dict[str, Any]:
    return _scalar(connection, "queue_status", lane=lane)  # type: ignore[no-any-return]


def lane_state(connection: Connection, lane: str) -> LaneState:
    row = connection.execute(query("lane_state"), {"lane": lane}).fetchone()
    assert row is not None
    due, _, seconds_to_next, drains = row
    return LaneState(due, seconds_to_next, drains)


def take_drain_slot(connection: Connection, lane: str, slots: int) -> int | None:
    """Marks this session as one of the lane's drains until it closes; None when all slots are taken."""
    return _scalar(connection, "take_drain_slot", lane=lane, slots=slots)  # type: ignore[no-any-return]


def listen(connection: Connection) -> None:
    connection.execute(query("listen"))


def wait_for_work(connection: Connection, lane: str, seconds: float) -> str | None:
    """Waits on a listening session; returns the lane's name or WAKE_ALL when told so, None when time is up."""
    deadline = time.monotonic() + seconds
    while True:
        remaining = max(deadline - time.monotonic(), 0)
        heard = {notice.payload for notice in connection.notifies(timeout=remaining, stop_after=1)}
        if news := heard & {WAKE_ALL, lane}:
            return WAKE_ALL if WAKE_ALL in news else lane
        if not remaining:
            return None


def wake_all(connection: Connection) -> None:
    """Ends every waiting sensor tick and every drain, after the batch it is at."""
    connection.execute(query("wake_all"), {"payload": WAKE_ALL})


def _ids(connection: Connection, name: str, items: Sequence[Item], **parameters: Any) -> set[UUID]:
    leases = {"ids": [item.id for item in items], "attempts": [item.attempt for item in items]}
    return {id for (id,) in connection.execute(query(name), {**leases, **parameters})}


def _scalar(connection: Connection, name: str, **parameters: Any) -> Any:
    row = connection.execute(query(name), parameters).fetchone()
    assert row is not None
    return row[0]
