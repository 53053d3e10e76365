"""The queue's verbs over one connection. `sql/repeatable/1_queue.sql` says what they mean."""

import os
import secrets
import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from psycopg.rows import class_row

from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import query

STOP_ALL = "stop"
"""The NOTIFY payload that tells every worker to stop after its batch."""
REOPEN = "reopen"
"""The NOTIFY payload that tells every worker to open its handler again after its batch, as a model has switched."""
WAKE = "wake"
"""The NOTIFY payload that makes every waiting worker look at its stop signal."""

_claimers: dict[int, int] = {}
"""By process id: a forked process has a number of its own."""


@dataclass(frozen=True)
class Job:
    """One claimed row; (id, attempt) names its lease."""

    id: UUID
    source: str
    kind: str
    """what the key names: an entity, one item of it, its parent, or all rows of the source's table"""
    key: str
    payload: dict[str, Any] = field(hash=False)
    attempt: int
    caused_at: datetime | None = None
    """when the app made the change that the job follows from"""


@dataclass(frozen=True)
class Pause:
    """No worker claims jobs of the queue."""

    paused_by: str
    paused_at: str
    pause_end: str | None
    """None if it lasts until the queue is resumed"""

    def __str__(self) -> str:
        return f"paused by {self.paused_by} until {self.pause_end or 'it is resumed'}"


@dataclass(frozen=True)
class QueueState:
    due: bool
    """Whether a job may be claimed."""
    seconds_to_next: float | None
    """Until the earliest job may be claimed; negative when it is due, None if none may ever be."""
    waiting: int
    """Jobs that are due, counted up to a thousand."""
    workers: int
    announced: bool = True
    """Whether enqueuing wakes the workers."""
    paused: bool = False


def enqueue(connection: Connection, queue: str, source: str, keys: Iterable[str], kind: str = "entity") -> int:
    return int(_scalar(connection, "enqueue", queue=queue, source=source, kind=kind, keys=list(keys)))


def claim(connection: Connection, queue: str, batch_size: int, lease: timedelta) -> list[Job]:
    with connection.cursor(row_factory=class_row(Job)) as cursor:
        return cursor.execute(query("claim"), {"queue": queue, "batch_size": batch_size, "lease": lease}).fetchall()


def renew(connection: Connection, jobs: Sequence[Job], lease: timedelta) -> set[UUID]:
    """Lengthens the leases and returns the ids of the jobs whose lease was still held."""
    return _ids(connection, "renew", jobs, lease=lease)


def complete(connection: Connection, jobs: Sequence[Job]) -> set[UUID]:
    """Completes the jobs whose lease is still held and returns their ids: only their results may be written."""
    return _ids(connection, "complete", jobs)


def standing(connection: Connection, ids: Collection[UUID]) -> set[UUID]:
    """The ids of those jobs that are not deleted."""
    return {id for (id,) in connection.execute(query("standing_jobs"), {"ids": list(ids)})}


def fail(connection: Connection, job: Job, reason: str, *, permanent: bool) -> bool:
    """Counts the attempt; says whether the lease was still held."""
    return bool(_scalar(connection, "fail", id=job.id, attempt=job.attempt, reason=reason, permanent=permanent))


def snooze(connection: Connection, jobs: Sequence[Job], delay: timedelta, reason: str | None) -> set[UUID]:
    """Makes the jobs pending again and counts no attempt; returns the ids of those whose lease was still held."""
    return _ids(connection, "snooze", jobs, delay=delay, reason=reason)


def suspect(connection: Connection, jobs: Sequence[Job], reason: str) -> set[UUID]:
    """Makes the jobs pending again, to be claimed in batches of half the size; returns the ids of those held."""
    return _ids(connection, "suspect", jobs, limit_of_batch=max(len(jobs) // 2, 1), reason=reason)


def snooze_queue(connection: Connection, queue: str, delay: timedelta, reason: str) -> int:
    return int(_scalar(connection, "snooze_queue", queue=queue, delay=delay, reason=reason))


def retry(connection: Connection, queue: str, ids: Sequence[UUID] | None = None) -> int:
    """Makes failed jobs pending with fresh attempts, all of the queue or those named; returns how many."""
    return int(_scalar(connection, "retry", queue=queue, ids=None if ids is None else list(ids)))


def retry_because(connection: Connection, queue: str, because: str) -> int:
    """Retries the jobs whose reason holds these words, in capitals or not; an empty text is in each."""
    found = connection.execute(query("failed_because"), {"queue": queue, "because": because})
    return retry(connection, queue, [id for (id,) in found])


def hasten_publishing(connection: Connection) -> int:
    """Makes the waiting jobs of publications due now; returns how many."""
    return connection.execute(query("hasten_publishing")).rowcount


def purge(connection: Connection, keep: timedelta) -> int:
    """Deletes jobs that completed longer ago than `keep`, in small batches; returns how many."""
    purged = 0
    while batch := _scalar(connection, "purge", keep=keep):
        purged += batch
    return purged


def status(connection: Connection, queue: str) -> dict[str, Any]:
    return _scalar(connection, "queue_status", queue=queue)  # type: ignore[no-any-return]


def queue_state(connection: Connection, queue: str) -> QueueState:
    with connection.cursor(row_factory=class_row(QueueState)) as cursor:
        state = cursor.execute(query("queue_state"), {"queue": queue}).fetchone()
    assert state is not None
    return state


def queue_pause(connection: Connection, queue: str) -> Pause | None:
    with connection.cursor(row_factory=class_row(Pause)) as cursor:
        return cursor.execute(query("queue_pause"), {"queue": queue}).fetchone()


def pause(connection: Connection, queue: str, paused_by: str, pause_end: str = "infinity") -> None:
    """`pause_end` is a time as Postgres reads it."""
    parameters = {"queue": queue, "paused_by": paused_by, "pause_end": pause_end}
    connection.execute(query("pause_queue"), parameters)


def resume(connection: Connection, queue: str) -> bool:
    """Wakes the workers; says whether the queue was paused."""
    return bool(_scalar(connection, "resume_queue", queue=queue))


def workers_alive(connection: Connection) -> int:
    """How many queues are served, by all workers together."""
    return int(_scalar(connection, "workers_alive"))


def take_worker_slot(connection: Connection, queue: str, slots: int) -> int | None:
    """Marks this session as one of the queue's workers until it closes; None when all slots are taken."""
    return _scalar(connection, "take_worker_slot", queue=queue, slots=slots)  # type: ignore[no-any-return]


def process_claimer() -> int:
    """The number of this process. Its sessions have it in their name, which shows that its workers are alive."""
    return _claimers.setdefault(os.getpid(), secrets.randbelow(2**31 - 1) + 1)


def enter_as_claimer(connection: Connection, claimer: int) -> None:
    """The jobs that this session claims are this worker's."""
    connection.execute(query("enter_as_claimer"), {"claimer": claimer})


def cut_leases_of_dead_workers(connection: Connection) -> int:
    """Jobs of workers that are gone are free in ten seconds; returns how many these are."""
    return int(_scalar(connection, "cut_leases_of_dead_workers"))


def state_cause(connection: Connection, jobs: Sequence[Job]) -> None:
    """Jobs that the transaction enqueues from now on follow from the earliest change that these jobs follow from."""
    if causes := [job.caused_at for job in jobs if job.caused_at is not None]:
        connection.execute(query("set_caused_at"), {"caused_at": min(causes).isoformat()})


def listen(connection: Connection) -> None:
    connection.execute(query("listen"))


def wait_for_work(connection: Connection, queue: str, seconds: float) -> str | None:
    """Waits on a listening session until STOP_ALL, REOPEN, WAKE or the queue's name is announced, and returns it.

    If there are several, it returns the first in this order. It returns None when the time is up."""
    deadline = time.monotonic() + seconds
    while True:
        remaining = max(deadline - time.monotonic(), 0)
        heard = {notice.payload for notice in connection.notifies(timeout=remaining, stop_after=1)}
        for news in (STOP_ALL, REOPEN, WAKE, queue):
            if news in heard:
                return news
        if not remaining:
            return None


def stop_all(connection: Connection) -> None:
    connection.execute(query("notify_workers"), {"payload": STOP_ALL})


def reopen_all(connection: Connection) -> None:
    connection.execute(query("notify_workers"), {"payload": REOPEN})


def wake(connection: Connection) -> None:
    connection.execute(query("notify_workers"), {"payload": WAKE})


def _ids(connection: Connection, name: str, jobs: Sequence[Job], **parameters: Any) -> set[UUID]:
    leases = {"ids": [job.id for job in jobs], "attempts": [job.attempt for job in jobs]}
    return {id for (id,) in connection.execute(query(name), {**leases, **parameters})}


def _scalar(connection: Connection, name: str, **parameters: Any) -> Any:
    row = connection.execute(query(name), parameters).fetchone()
    assert row is not None
    return row[0]
