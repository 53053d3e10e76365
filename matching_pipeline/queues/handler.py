"""The interface of handlers: a handler does the jobs of one queue, and gives each an outcome."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, Protocol, runtime_checkable

from matching_pipeline.db.connections import Connection
from matching_pipeline.errors import JobFailure
from matching_pipeline.queues.client import Job


class LockBusy(Exception):
    """Another session holds what the write needs. The worker snoozes the jobs for a while and counts no attempt."""


@dataclass(frozen=True)
class Outcome:
    """The end of one job: a result to write, a failure, or the reason why it must wait."""

    job: Job
    result: Any = None
    failure: JobFailure | None = None
    must_wait: Exception | None = None


class Handler(Protocol):
    """Does the jobs of one queue."""

    queue: str
    batch_size: int
    lease: timedelta

    def work(self, connection: Connection, jobs: Sequence[Job]) -> Iterator[list[Outcome]]:
        """Does the jobs with no transaction open, and yields outcomes in groups as they are ready.

        The session is for reading. A handler that writes with it does so in short transactions, fenced by the job's
        lease (`matching_pipeline/handlers/generation.py`). It yields at least every few seconds, an empty list if
        need be. Between two yields the worker writes the outcomes and renews the leases of the other jobs. Raises
        ProviderUnavailable when no job can be done now, ConfigurationError when a person must act.
        """
        ...

    def prepare_write(self, connection: Connection) -> None:
        """Takes the locks that the write needs, before the transaction touches a job.

        Raises LockBusy if another session holds one, ModelSwitched if the handler's model works here no longer.
        """
        ...

    def write(self, connection: Connection, outcomes: Sequence[Outcome]) -> Mapping[str, int] | None:
        """Writes results inside the transaction that completes their jobs; returns figures to add up.

        Raises JobFailure if a job's row has changed so that its result cannot be written, SourceUnreadable if its
        source has. The worker finds the job by halving the group.
        """
        ...

    def forget(self, connection: Connection, job: Job) -> None:
        """Removes the result of an earlier input, inside the transaction that fails the job."""
        ...


@runtime_checkable
class TwoSessions(Protocol):
    """A handler whose `work` may run twice at once, each with a session of its own."""

    two_sessions: Literal[True]
