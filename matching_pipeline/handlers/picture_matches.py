"""Queues of matchers of pictures: the handler maintains the lists of the left source."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import timedelta
from uuid import UUID

from matching_pipeline.db.connections import Connection
from matching_pipeline.matches.locks import ListsLock
from matching_pipeline.matches.picture_matcher import PictureMatcher
from matching_pipeline.queues.client import Job
from matching_pipeline.queues.worker import Outcome
from matching_pipeline.sources.keys import key_id


class PictureMatchHandler:
    """It does everything in the transaction that completes the jobs, and takes the lists for that time.

    A list depends on every entity of both sources, so a writer must see what the last writer committed.
    """

    batch_size = 500
    lease = timedelta(minutes=5)

    def __init__(self, queue: str, matcher: PictureMatcher) -> None:
        self.queue = queue
        self._matcher = matcher

    def work(self, connection: Connection, jobs: Sequence[Job]) -> Iterator[list[Outcome]]:
        yield [Outcome(job) for job in jobs]

    def prepare_write(self, connection: Connection) -> None:
        ListsLock(connection, self._matcher.name).take()

    def write(self, connection: Connection, outcomes: Sequence[Outcome]) -> dict[str, int]:
        changed: dict[str, set[UUID]] = defaultdict(set)
        for outcome in outcomes:
            changed[outcome.job.source].add(key_id(outcome.job.key))
        sides = self._matcher.sides
        return vars(self._matcher.update(connection, changed[sides.left], changed[sides.right]))

    def forget(self, connection: Connection, job: Job) -> None:
        """A list stays as it is until its job is retried."""
