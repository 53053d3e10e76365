"""The handler of the queue `matches`: it maintains the lists of projects."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import timedelta
from uuid import UUID

from matching_pipeline.db.connections import Connection
from matching_pipeline.matches import projects
from matching_pipeline.matches.image_sets import PART_IMAGES
from matching_pipeline.matches.locks import ListsLock
from matching_pipeline.queues.client import Job
from matching_pipeline.queues.worker import Outcome


class MatchHandler:
    """It does everything in the transaction that completes the jobs, and takes the lists for that time.

    A list depends on every project and product, so a writer must see what the last writer committed.
    """

    queue = projects.QUEUE
    batch_size = 500
    lease = timedelta(minutes=5)

    def __init__(self, part_images: int = PART_IMAGES) -> None:
        self._part_images = part_images

    def work(self, connection: Connection, jobs: Sequence[Job]) -> Iterator[list[Outcome]]:
        yield [Outcome(job) for job in jobs]

    def prepare_write(self, connection: Connection) -> None:
        ListsLock(connection, projects.KIND).take()

    def write(self, connection: Connection, outcomes: Sequence[Outcome]) -> dict[str, int]:
        changed: dict[str, set[UUID]] = defaultdict(set)
        for outcome in outcomes:
            changed[outcome.job.entity_kind].add(outcome.job.entity_id)
        return vars(projects.update(connection, changed["project"], changed["product"], self._part_images))

    def forget(self, connection: Connection, job: Job) -> None:
        """A list stays as it is until its job is retried."""
