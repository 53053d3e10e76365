"""The queue `publishing`: writes into the app's tables what they could not take in the transaction of the result.

A job of the kind `status` names an entity, and one of the kind `status_of_item` an item: the app's word for its state
is written. Any other job names a matcher. Its pairs in `unpublished_pairs` are written or removed. A row there
without keys means all pairs of the matcher, which are then compared. A pair or a status that the table refuses again
is tried again each minute.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import TypeVar
from uuid import UUID

from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import query
from matching_pipeline.db.transactions import GAVE_WAY, give_way
from matching_pipeline.matches.locks import ListsLock
from matching_pipeline.queues import client
from matching_pipeline.queues.client import Job
from matching_pipeline.queues.handler import LockBusy, Outcome

PAIRS_AT_ONCE = 500
"""Pairs that one transaction writes."""
RANGE = 2000
"""Pairs that one transaction compares."""
REFUSED_DELAY = timedelta(minutes=1)
LOCKED_DELAY = timedelta(seconds=1)
ROW_LOCKED = "its row is locked"
"""What `set_entity_status` says of a row that the app has locked."""

Result = TypeVar("Result")


class PublishingHandler:
    """Each step is a short transaction of its own. One that publishes has the lists of the matcher alone."""

    batch_size = 50
    lease = timedelta(minutes=5)

    def __init__(self, queue: str) -> None:
        self.queue = queue

    def work(self, connection: Connection, jobs: Sequence[Job]) -> Iterator[list[Outcome]]:
        for job in jobs:
            delay = REFUSED_DELAY
            try:
                if job.kind == "publication":
                    yield from self._catch_up(connection, job.key)
                    reason = _first(connection, "publishing_refused", matcher=job.key)
                else:
                    reason = give_way(connection, partial(_set_status, connection, job))
            except (LockBusy, *GAVE_WAY) as error:
                reason, delay = str(error), LOCKED_DELAY
            if reason is None:
                yield [Outcome(job)]
            else:
                client.snooze(connection, [job], LOCKED_DELAY if reason == ROW_LOCKED else delay, reason)

    def prepare_write(self, connection: Connection) -> None:
        """A job completes without a write."""

    def write(self, connection: Connection, outcomes: Sequence[Outcome]) -> Mapping[str, int] | None:
        return None

    def forget(self, connection: Connection, job: Job) -> None:
        """The published rows stay."""

    def _catch_up(self, connection: Connection, matcher: str) -> Iterator[list[Outcome]]:
        """Yields after each step, so that the job keeps its lease."""
        standing = [id for (id,) in connection.execute(query("compared_pairs"), {"matcher": matcher})]
        if standing:
            if self._alone(connection, matcher, partial(_resume, connection, matcher)) is not None:
                return
            after = None
            while True:
                after = self._alone(connection, matcher, partial(_publish_range, connection, matcher, after))
                yield []
                if after is None:
                    break
            connection.execute(query("forget_comparison"), {"ids": standing})
        last: int | None = 0
        while last is not None:
            last = self._alone(connection, matcher, partial(_publish_pairs, connection, matcher, last))
            yield []

    def _alone(self, connection: Connection, matcher: str, action: Callable[[], Result]) -> Result:
        def act() -> Result:
            ListsLock(connection, matcher).take()
            return action()

        return give_way(connection, act)


def _set_status(connection: Connection, job: Job) -> str | None:
    """Why the status cannot be written; None if it is."""
    return _first(connection, "set_kept_status", source=job.source, kind=job.kind, key=job.key)


def _resume(connection: Connection, matcher: str) -> str | None:
    """Why the table takes no pairs; None if it does."""
    return _first(connection, "resume_publication", matcher=matcher)


def _first(connection: Connection, name: str, **parameters: str) -> str | None:
    row = connection.execute(query(name), parameters).fetchone()
    return row[0] if row else None


def _publish_range(connection: Connection, matcher: str, after: UUID | None) -> UUID | None:
    """Compares the next pairs. Returns the last left entity, None at the end."""
    parameters = {"matcher": matcher, "after": after, "size": RANGE}
    row = connection.execute(query("publish_range"), parameters).fetchone()
    return row[0] if row else None


def _publish_pairs(connection: Connection, matcher: str, after: int) -> int | None:
    """Writes or removes the next pairs that are kept. Returns the id of the last, None if there is none."""
    parameters = {"matcher": matcher, "after": after, "size": PAIRS_AT_ONCE}
    pairs = connection.execute(query("unpublished_pairs"), parameters).fetchall()
    if not pairs:
        return None
    left, right = [pair[1] for pair in pairs], [pair[2] for pair in pairs]
    connection.execute(query("publish_kept_pairs"), {"matcher": matcher, "left": left, "right": right})
    return int(pairs[-1][0])
