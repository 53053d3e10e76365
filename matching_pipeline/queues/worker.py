"""The loop that every queue shares: claim a batch, do it, write it, repeat; then wait for more, or end."""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import partial
from uuid import UUID

import psycopg

from matching_pipeline.db.connections import Connection
from matching_pipeline.db.transactions import GAVE_WAY, give_way, impatient_transaction
from matching_pipeline.errors import (
    HostBusy,
    JobFailure,
    ModelSwitched,
    SourceUnreadable,
    TransientFailure,
)
from matching_pipeline.queues import client
from matching_pipeline.queues.client import Job
from matching_pipeline.queues.endings import Ending, ending_of
from matching_pipeline.queues.handler import Handler, LockBusy, Outcome, TwoSessions
from matching_pipeline.queues.log import QueueLog
from matching_pipeline.queues.progress import StopSignal, Summary
from matching_pipeline.queues.second import SecondSession
from matching_pipeline.queues.session import WorkerSession

LOOK_AGAIN_SECONDS = 5.0
"""A waiting worker looks at the queue at least this often, should a NOTIFY be lost."""
LOOK_AGAIN_WITHOUT_NOTIFY_SECONDS = 0.1
"""With ENQUEUE_NOTIFY=false nothing else tells a waiting worker of new jobs. Nothing tells it that its second session
ended, for which a worker waits before it ends: that session's batch may enqueue jobs."""
LOOK_AGAIN_AT_LOCKED_SECONDS = 0.05
LOCK_BUSY_DELAY = timedelta(seconds=5)


class QueueWorker:
    """Does the jobs of one queue: those that are due, or with `serve` all jobs until it is told to stop.

    It holds one session: an advisory lock of it says that the worker is alive, and it listens for new jobs.
    `on_progress` is called after each write, and every few seconds while the worker waits.
    A session that is lost (the database restarts) is opened again, and results in hand are written then.
    """

    def __init__(
        self,
        database_url: str,
        handler: Handler,
        *,
        serve: bool = False,
        stop: StopSignal | None = None,
        claimer: int | None = None,
        slots: int = 64,
        on_enter: Callable[[], None] = lambda: None,
        on_progress: Callable[[Summary], None] = lambda summary: None,
        is_second: bool = False,
    ) -> None:
        self.handler = handler
        self.summary = Summary()
        self._serve = serve
        self._stop = stop or StopSignal()
        self._on_enter = on_enter
        self._on_progress = on_progress
        self._may_divide = isinstance(handler, TwoSessions) and not is_second
        make = partial(QueueWorker, database_url, handler, claimer=claimer, slots=slots, is_second=True)
        self._second = SecondSession(self._stop, lambda stop, note: make(stop=stop, on_progress=note).run())
        self._held: dict[UUID, Job] = {}
        """The batch's jobs that are neither written nor released, by id: their leases are ours."""
        self._renewed = 0.0
        self._log = QueueLog(handler.queue)
        self._session = WorkerSession(
            database_url, handler.queue, claimer=claimer, slots=slots, on_reopen=self._reopened
        )

    @property
    def _connection(self) -> Connection:
        return self._session.connection

    @property
    def holds_jobs(self) -> bool:
        return bool(self._held) or self._second.is_alive

    def run(self) -> Summary:
        """Returns what was done. However it ends, the worker gives up the leases of unfinished jobs."""
        entered = self._session.open()
        try:
            if entered:
                self._on_enter()
                with self._second:
                    self._loop()
            else:
                self.summary.stopped_because = "as many workers of the queue as may be are alive already"
        except ModelSwitched as reason:
            self.summary.stopped_because = str(reason)
        finally:
            self._session.close()
        self.summary = self._second.total(self.summary)
        return self.summary

    def _loop(self) -> None:
        while not self._stop.is_set():
            began = time.monotonic()
            self._second.require_no_error()
            is_alone = not self._second.is_alive
            if jobs := self._claim():
                if len(jobs) == self.handler.batch_size and self._may_divide:
                    self._second.start()
                self._do(jobs)
                self.summary.busy_seconds += time.monotonic() - began
                if self._told_to_stop(within=0):
                    return
                continue
            self._session.run(client.cut_leases_of_dead_workers)
            state = self._session.run(lambda connection: client.queue_state(connection, self.handler.queue))
            if not self._serve and not state.due and is_alone:
                if state.paused:
                    self.summary.stopped_because = "the queue is paused"
                return
            self._on_progress(self._second.total(self.summary))
            # jobs that are due and cannot be claimed are locked, by another worker's claim or the app's transaction
            is_notified = state.announced and (self._serve or is_alone)
            look_again = LOOK_AGAIN_SECONDS if is_notified else LOOK_AGAIN_WITHOUT_NOTIFY_SECONDS
            next_due = look_again if state.seconds_to_next is None else state.seconds_to_next
            if self._told_to_stop(max(min(next_due, look_again), LOOK_AGAIN_AT_LOCKED_SECONDS)):
                return
        self.summary.stopped_because = "it was told to stop"

    def _claim(self) -> list[Job]:
        handler = self.handler
        return self._session.run(
            lambda connection: client.claim(connection, handler.queue, handler.batch_size, handler.lease)
        )

    def _told_to_stop(self, within: float) -> bool:
        heard = self._session.run(lambda connection: client.wait_for_work(connection, self.handler.queue, within))
        if heard == client.STOP_ALL:
            self.summary.stopped_because = "it was told to stop"
            self._stop.set()
        if heard == client.REOPEN:
            self.summary.stopped_because = "its handler must be opened again"
        return heard in (client.STOP_ALL, client.REOPEN)

    def _do(self, jobs: Sequence[Job]) -> None:
        self._held = {job.id: job for job in jobs}
        self._renewed = time.monotonic()
        self._log.claimed(jobs)
        session = self._connection
        try:
            self._work(jobs)
        except BaseException as error:
            ending = ending_of(error, session)
            self._end(ending)
            if ending.is_raised:
                raise
        else:
            self._end(Ending())

    def _end(self, ending: Ending) -> None:
        if ending.reconnects and self._connection.closed:
            self._session.reopen()
        # without a session the leases end when their time is over
        with suppress(psycopg.Error):
            if ending.snoozes_queue:
                client.snooze_queue(self._connection, self.handler.queue, ending.delay, str(ending.reason))
                self._log.queue_snoozed(ending.delay, ending.reason)
        with suppress(psycopg.Error):
            held = list(self._held.values())
            if ending.has_bug and len(held) == 1:
                bug = TransientFailure(str(ending.reason))
                self._log.failed(held[0], bug)
                client.fail(self._connection, held[0], str(bug), permanent=False)
            elif ending.has_bug and held:
                self._log.split(held, ending.reason)
                client.suspect(self._connection, held, str(ending.reason))
            else:
                self._release(held, ending.delay, ending.reason)

    def _work(self, jobs: Sequence[Job]) -> None:
        for outcomes in self.handler.work(self._connection, jobs):
            waiting: dict[tuple[timedelta, str], list[Job]] = defaultdict(list)
            for outcome in outcomes:
                if reason := outcome.must_wait:
                    delay = reason.retry_after if isinstance(reason, HostBusy) else LOCK_BUSY_DELAY
                    waiting[delay, str(reason)].append(outcome.job)
            for (delay, text), together in waiting.items():
                self._release(together, delay, text)
            if ended := [outcome for outcome in outcomes if not outcome.must_wait]:
                self._finish(ended)
            self._renew()
            if self._stop.is_set_at_once():
                return

    def _renew(self) -> None:
        if self._held and time.monotonic() - self._renewed > self.handler.lease.total_seconds() / 3:
            self._session.run(self._lengthen_leases)
        self._session.look()

    def _lengthen_leases(self, connection: Connection) -> None:
        held = list(self._held.values())
        kept = client.renew(connection, held, self.handler.lease)
        self._renewed = time.monotonic()
        self._log.lost([job for job in held if job.id not in kept])

    def _reopened(self, connection: Connection, seconds: float) -> None:
        self._log.reconnected(seconds)
        # another worker may have cut the leases
        self._lengthen_leases(connection)

    def _release(self, jobs: Sequence[Job], delay: timedelta, reason: str | None) -> None:
        """Makes the jobs pending again and counts no attempt. A job whose row is locked, as the app deletes it, waits
        for the end of its lease."""
        if not jobs:
            return
        try:
            with impatient_transaction(self._connection):
                returned = client.snooze(self._connection, jobs, delay, reason)
        except GAVE_WAY:
            if len(jobs) > 1:
                for job in jobs:
                    self._release([job], delay, reason)
        else:
            self.summary.counts["snoozed"] += len(returned)
            self._log.snoozed([job for job in jobs if job.id in returned], delay, reason)
        self._forget(jobs)

    def _forget(self, jobs: Iterable[Job]) -> None:
        """The worker no longer holds these jobs."""
        for job in jobs:
            self._held.pop(job.id, None)

    def _finish(self, outcomes: Sequence[Outcome]) -> None:
        """Writes a group; if the database refuses it, its halves, so that only the refused job waits or fails."""
        jobs = [outcome.job for outcome in outcomes]
        try:
            counts, lost, figures = self._session.run(
                lambda connection: give_way(connection, lambda: self._write(connection, outcomes))
            )
        except LockBusy as lock_busy:
            self._release(jobs, LOCK_BUSY_DELAY, str(lock_busy))
        except (psycopg.Error, JobFailure, SourceUnreadable) as error:
            if self._connection.closed or isinstance(error, psycopg.errors.DiskFull):
                raise
            if len(outcomes) > 1:
                self._log.split(jobs, _said(error))
                half = len(outcomes) // 2
                for part in (outcomes[:half], outcomes[half:]):
                    self._finish(part)
                    self._renew()
            elif isinstance(error, GAVE_WAY):
                self._release(jobs, LOCK_BUSY_DELAY, f"its rows are locked: {_reason(error)}")
            elif isinstance(error, SourceUnreadable):
                self._release(jobs, LOCK_BUSY_DELAY, str(error))
            elif outcomes[0].failure is None:
                self._finish([Outcome(jobs[0], failure=_as_failure(error))])
            else:
                raise
        else:
            self._forget(jobs)
            self._log_ended(outcomes, lost)
            self.summary.counts.update(counts)
            self.summary.figures.update(figures)
            self._on_progress(self._second.total(self.summary))

    def _write(
        self, connection: Connection, outcomes: Sequence[Outcome]
    ) -> tuple[Counter[str], set[UUID], Mapping[str, int]]:
        """Returns counts, the ids of the jobs whose lease was lost, and figures."""
        self.handler.prepare_write(connection)
        done = [outcome for outcome in outcomes if outcome.failure is None]
        ours = client.complete(connection, [outcome.job for outcome in done])
        client.state_cause(connection, [outcome.job for outcome in outcomes])
        figures = self.handler.write(connection, [outcome for outcome in done if outcome.job.id in ours])
        failed = set()
        for outcome in outcomes:
            if outcome.failure is not None and client.fail(
                connection, outcome.job, str(outcome.failure), permanent=outcome.failure.permanent
            ):
                self.handler.forget(connection, outcome.job)
                failed.add(outcome.job.id)
        lost = {outcome.job.id for outcome in outcomes} - ours - failed
        return Counter(completed=len(ours), failed=len(failed), lost=len(lost)), lost, figures or {}

    def _log_ended(self, outcomes: Sequence[Outcome], lost: Collection[UUID]) -> None:
        if lost:
            # the others were deleted together with their rows
            standing = self._session.run(lambda connection: client.standing(connection, lost))
            self._log.lost([outcome.job for outcome in outcomes if outcome.job.id in standing])
        kept = [outcome for outcome in outcomes if outcome.job.id not in lost]
        self._log.completed([outcome.job for outcome in kept if outcome.failure is None])
        for outcome in kept:
            if outcome.failure is not None:
                self._log.failed(outcome.job, outcome.failure)


def _as_failure(error: psycopg.Error | JobFailure) -> JobFailure:
    if isinstance(error, JobFailure):
        return error
    return TransientFailure(f"the database refuses it: {_reason(error)}")


def _said(error: Exception) -> str:
    return _reason(error) if isinstance(error, psycopg.Error) else str(error)


def _reason(error: psycopg.Error) -> str:
    """The message without the detail, which quotes the rows."""
    return error.diag.message_primary or f"SQLSTATE {error.sqlstate}"
