"""Which standing workers there are, and whether another must be started: pure decisions over the table `workers`."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from psycopg.rows import class_row

from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import query
from matching_pipeline.queues import client
from matching_pipeline.queues.client import QueueState

STARTING_SECONDS = 60.0
"""A worker that was asked for and has not started within this time is given up. A run that fails as it starts is
therefore started once a minute at most."""
ENTERING_SECONDS = 180.0
"""A worker that is alive and does not serve all queues by then counts as one that does: another may be started."""
SETTLING_SECONDS = 60.0
"""A worker that failed in a queue, or runs another version, is relieved when it is at least this old. So a failing
queue makes one failed run a minute at most, and two code locations do not relieve each other at once."""
OVERDUE_SECONDS = 10.0
"""A queue whose oldest due job has waited longer has more jobs than the workers that are alive can do."""


@dataclass(frozen=True)
class WorkerState:
    """One row of `workers`."""

    id: int
    version: str
    helps: bool
    run_id: str | None
    failures: Mapping[str, str]
    entered: bool
    requested_seconds: float
    age_seconds: float | None
    """since it started; None if it has not"""
    alive: bool

    @property
    def is_starting(self) -> bool:
        """A worker that died as it started counts too for the rest of its time, so that its successor does not start
        at once."""
        if self.entered:
            return False
        limit = ENTERING_SECONDS if self.alive else STARTING_SECONDS
        return self.requested_seconds < limit

    @property
    def is_gone(self) -> bool:
        return not self.alive and not self.is_starting

    def __str__(self) -> str:
        return f"worker {self.id}" + (f" in run {self.run_id[:8]}" if self.run_id else "")


@dataclass(frozen=True)
class Request:
    """A worker to start, and why."""

    helps: bool
    because: str


@dataclass(frozen=True)
class WorkerPolicy:
    version: str
    """of the code and settings that a worker should run"""
    max_age_seconds: float
    max_workers: int


def worker_states(connection: Connection) -> list[WorkerState]:
    """All workers that were asked for and have not left, the oldest first."""
    with connection.cursor(row_factory=class_row(WorkerState)) as cursor:
        return cursor.execute(query("worker_states")).fetchall()


def decide(workers: Sequence[WorkerState], queues: Mapping[str, QueueState], policy: WorkerPolicy) -> Request | str:
    """The worker to start now, or the reason why none is."""
    present = [worker for worker in workers if not worker.is_gone]
    for worker in present:
        if worker.is_starting:
            return f"{worker} is starting"
    standing = [worker for worker in present if not worker.helps]
    if not standing:
        return Request(helps=False, because="no worker is alive")
    newest = standing[-1]
    assert newest.age_seconds is not None
    is_settled = newest.age_seconds >= SETTLING_SECONDS
    if newest.version != policy.version and is_settled:
        return Request(helps=False, because=f"{newest} runs other code or settings")
    if newest.failures and is_settled:
        return Request(helps=False, because=f"{newest} failed in the queues {', '.join(newest.failures)}")
    if newest.age_seconds >= policy.max_age_seconds:
        return Request(helps=False, because=f"{newest} is {newest.age_seconds:.0f} s old")
    overdue = [
        queue
        for queue, state in queues.items()
        if state.seconds_to_next is not None
        and -state.seconds_to_next > OVERDUE_SECONDS
        and queue not in newest.failures
    ]
    if overdue and newest.age_seconds > OVERDUE_SECONDS and len(present) < policy.max_workers:
        return Request(helps=True, because=f"jobs of {', '.join(overdue)} wait longer than {OVERDUE_SECONDS:.0f} s")
    return "; ".join(_described(worker) for worker in present)


def request_worker(connection: Connection, queues: Iterable[str], policy: WorkerPolicy) -> tuple[int, Request] | str:
    """Asks for a worker where one must be started and returns its id; otherwise the reason why none is.

    Two sensors that ask at once get one worker.
    """
    with connection.transaction():
        if connection.execute(query("hold_worker_requests")).fetchone() != (True,):
            return "another sensor decides now"
        workers = worker_states(connection)
        gone = [worker.id for worker in workers if worker.is_gone]
        connection.execute(query("delete_workers"), {"ids": gone})
        client.cut_leases_of_dead_workers(connection)
        states = {queue: client.queue_state(connection, queue) for queue in queues}
        decision = decide(workers, states, policy)
        if isinstance(decision, str):
            return decision
        row = connection.execute(
            query("request_worker"), {"version": policy.version, "helps": decision.helps}
        ).fetchone()
        assert row is not None
        return row[0], decision


def _described(worker: WorkerState) -> str:
    role = "helps" if worker.helps else "serves all queues"
    failures = f", failed in {', '.join(worker.failures)}" if worker.failures else ""
    return f"{worker} {role} since {worker.age_seconds or 0:.0f} s{failures}"
