"""A worker's log: one line for each event. A line has the id and the source of a job, never its key."""

import logging
from collections.abc import Collection
from datetime import timedelta

from matching_pipeline.errors import JobFailure
from matching_pipeline.queues.client import Job

log = logging.getLogger(__name__)


class QueueLog:
    """The log of one queue. A person at night needs the warnings; the other lines have the level INFO."""

    def __init__(self, queue: str) -> None:
        self._queue = queue

    def claimed(self, jobs: Collection[Job]) -> None:
        self._say(logging.INFO, f"claimed {_counted(jobs)}", jobs)

    def completed(self, jobs: Collection[Job]) -> None:
        if jobs:
            self._say(logging.INFO, f"completed {_counted(jobs)}", jobs)

    def failed(self, job: Job, failure: JobFailure) -> None:
        again = "for good" if failure.permanent else "and is tried again, three times in all"
        self._say(
            logging.WARNING,
            f"job {job.id} of {job.source} failed {again}: {type(failure).__name__}: {failure}",
            [job],
        )

    def snoozed(self, jobs: Collection[Job], delay: timedelta, reason: str | None) -> None:
        if jobs:
            because = f": {reason}" if reason else ""
            self._say(logging.INFO, f"snoozed {_counted(jobs)} for {delay.total_seconds():.0f} s{because}", jobs)

    def queue_snoozed(self, delay: timedelta, reason: str | None) -> None:
        self._say(logging.WARNING, f"snoozed the queue for {delay.total_seconds():.0f} s: {reason}", [])

    def lost(self, jobs: Collection[Job]) -> None:
        if jobs:
            self._say(logging.WARNING, f"lost the lease of {_counted(jobs)}: the results are not written", jobs)

    def split(self, jobs: Collection[Job], reason: str | None) -> None:
        self._say(logging.WARNING, f"split a batch of {_counted(jobs)}: {reason}", jobs)

    def reconnected(self, seconds: float) -> None:
        self._say(logging.WARNING, f"lost its session, and connected again within {seconds:.1f} s", [])

    def _say(self, level: int, what: str, jobs: Collection[Job]) -> None:
        if log.isEnabledFor(level):
            extra = {
                "queue": self._queue,
                "source": sorted({job.source for job in jobs}),
                "job": [str(job.id) for job in jobs],
            }
            log.log(level, "%s %s", self._queue, what.replace("\n", " "), extra=extra)


def _counted(jobs: Collection[Job]) -> str:
    return "1 job" if len(jobs) == 1 else f"{len(jobs)} jobs"
