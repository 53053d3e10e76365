"""The standing worker: one process that serves all queues, each in a thread, until a newer worker serves all of them.

Its row in `workers` and the advisory lock of its session tell sensors and other workers that it is alive
(`matching_pipeline/queues/supervision.py` decides when another is started).
"""

import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from typing import Self

import psycopg
from psycopg.types.json import Jsonb

from matching_pipeline.db.connections import connect, is_away
from matching_pipeline.db.queries import query
from matching_pipeline.errors import ConfigurationError, ModelSwitched, ProviderUnavailable
from matching_pipeline.queues import client
from matching_pipeline.queues.handler import Handler
from matching_pipeline.queues.memory import limit_freed_memory, return_freed_memory
from matching_pipeline.queues.progress import StopSignal, Summary
from matching_pipeline.queues.supervision import worker_states
from matching_pipeline.queues.worker import QueueWorker

LOOK_SECONDS = 1.0
"""The time between two looks at whether the standing worker must end."""
PAUSE_SECONDS = 5.0
"""After so long without a job the worker returns freed memory to the system."""
IDLE_SECONDS = 300.0
"""A helper ends when it has had nothing to do for this long."""
PATIENCE_SECONDS = 20.0
"""How long a terminated worker waits for its threads to release their jobs."""
REOPEN_SECONDS = (5.0, 60.0)
"""The pause before a handler that failed is opened again: it begins with the first, and doubles up to the second."""
NO_MODEL_SECONDS = 10.0
"""A shadow queue without a shadow model is looked at this often."""

log = logging.getLogger(__name__)


class QueuesFailed(Exception):
    """The handler of a queue has failed since the start. The message names each such queue and its last error."""


OpenHandler = Callable[[str], AbstractContextManager[Handler]]
"""Opens the handler of a queue; raises ModelSwitched if the queue has no model now."""


@dataclass
class QueueWork:
    """The work of the standing worker in one queue since the last call of `take_work`."""

    counts: Counter[str] = field(default_factory=Counter)
    """as in Summary"""
    figures: Counter[str] = field(default_factory=Counter)
    """as in Summary"""
    busy_seconds: float = 0.0

    def merge(self, other: "QueueWork") -> None:
        self.counts += other.counts
        self.figures += other.figures
        self.busy_seconds += other.busy_seconds

    def add(self, summary: Summary, before: Summary) -> None:
        """Adds the difference between this summary and the earlier one."""
        self.counts += summary.counts - before.counts
        self.figures += summary.figures - before.figures
        self.busy_seconds += summary.busy_seconds - before.busy_seconds


class StandingWorker:
    """Use it as a context manager, and loop over `serve`. The constructor opens nothing."""

    def __init__(
        self,
        database_url: str,
        queues: Sequence[str],
        open_handler: OpenHandler,
        *,
        version: str,
        run_id: str,
        requested: int | None = None,
        helps: bool = False,
    ) -> None:
        """`requested` is the id of the row of `workers` that a sensor made; without it the worker makes its own."""
        self._database_url = database_url
        self._open_handler = open_handler
        self._version, self._run_id, self._helps = version, run_id, helps
        self._id = requested
        self._stop = StopSignal()
        self._lock = threading.Lock()
        self._work: dict[str, QueueWork] = {}
        self._workers: dict[str, QueueWorker] = {}
        self._failures: dict[str, str] = {}
        self._marked: dict[str, str] = {}
        self._last_job = time.monotonic()
        self._tidied = 0.0
        self._entered = {queue: threading.Event() for queue in queues}
        self._threads = [
            threading.Thread(target=self._serve_queue, args=(queue,), name=f"queue {queue}", daemon=True)
            for queue in queues
        ]

    def __enter__(self) -> Self:
        limit_freed_memory()
        self._connection = connect(self._database_url)
        self._register()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Waits until the threads have finished their batches. After an exception, or if one comes meanwhile, the
        threads release their jobs at once, and it waits PATIENCE_SECONDS at most."""
        try:
            if kind is None:
                self._end_threads()
        finally:
            self._end_threads(PATIENCE_SECONDS)
            with suppress(psycopg.Error):
                self._connection.execute(query("delete_workers"), {"ids": [self._id]})
            self._connection.close()

    def _end_threads(self, seconds: float | None = None) -> None:
        """Lets each thread finish its batch; with a limit of time each releases its jobs instead."""
        self._stop.set(at_once=seconds is not None)
        deadline = float("inf") if seconds is None else time.monotonic() + seconds
        with suppress(psycopg.Error):
            # so that another worker can be started already, unless a newer one serves
            self._connection.execute(query("delete_workers"), {"ids": [self._id]})
            client.wake(self._connection)
        for thread in self._threads:
            while thread.is_alive() and time.monotonic() < deadline:
                thread.join(0.5)

    def serve(self) -> Generator[None, None, None]:
        """Yields once a second until the worker must end."""
        entered = False
        while not self._stop.after_batch.wait(LOOK_SECONDS):
            try:
                if not entered and all(event.is_set() for event in self._entered.values()):
                    self._connection.execute(query("mark_worker_entered"), {"id": self._id})
                    entered = True
                    log.info("worker %s serves %s", self._id, ", ".join(self._entered))
                self._mark_failures()
                self._tidy()
                client.cut_leases_of_dead_workers(self._connection)
                if reason := self._reason_to_leave():
                    log.info("worker %s leaves: %s", self._id, reason)
                    break
            except psycopg.OperationalError:
                self._reconnect()
            yield

    def require_no_failure(self) -> None:
        """Raises QueuesFailed if the handler of a queue failed since the start."""
        if failures := dict(self._failures):
            raise QueuesFailed("; ".join(f"queue {queue}: {error}" for queue, error in failures.items()))

    def take_work(self) -> dict[str, QueueWork]:
        """The work in each queue since the last call."""
        with self._lock:
            taken, self._work = self._work, {}
            return taken

    def _register(self) -> None:
        """Takes the row that a sensor made. If there is none, or it was deleted since the run started too late, it
        makes one."""
        if self._id is None or self._connection.execute(query("has_worker"), {"id": self._id}).fetchone() is None:
            row = self._connection.execute(
                query("request_worker"), {"version": self._version, "helps": self._helps}
            ).fetchone()
            assert row is not None
            self._id = row[0]
        self._hold()
        started = self._connection.execute(query("start_worker"), {"id": self._id, "run_id": self._run_id})
        if started.fetchone() is None:
            raise ConfigurationError(f"worker {self._id} was started already, by another run")

    def _hold(self) -> None:
        self._connection.execute(query("hold_worker"), {"id": self._id})
        client.enter_as_claimer(self._connection, client.process_claimer())

    def _reconnect(self) -> None:
        if self._connection.closed:
            with suppress(psycopg.OperationalError, ConfigurationError):
                self._connection = connect(self._database_url)
                self._hold()

    def _mark_failures(self) -> None:
        failures = dict(self._failures)
        if failures != self._marked:
            self._connection.execute(query("mark_worker_failures"), {"id": self._id, "failures": Jsonb(failures)})
            self._marked = failures

    def _tidy(self) -> None:
        """Returns freed memory to the system at the beginning of each pause, and every minute of the pause, since
        reports for the UI use memory then."""
        now = time.monotonic()
        if now - self._last_job > PAUSE_SECONDS and (self._tidied < self._last_job or now - self._tidied > 60):
            return_freed_memory()
            self._tidied = now

    def _reason_to_leave(self) -> str | None:
        if any(worker.holds_jobs for worker in list(self._workers.values())):
            self._last_job = time.monotonic()
        if self._helps and time.monotonic() - self._last_job > IDLE_SECONDS:
            return f"it is a helper and had no job for {IDLE_SECONDS:.0f} s"
        assert self._id is not None
        for other in worker_states(self._connection):
            if other.id > self._id and other.entered and other.alive and not other.helps:
                return f"worker {other.id} serves the queues now"
        return None

    # in the thread of a queue

    def _serve_queue(self, queue: str) -> None:
        pause = REOPEN_SECONDS[0]
        while not self._stop.after_batch.is_set():
            began = time.monotonic()
            try:
                with self._open_handler(queue) as handler:
                    self._serve_by(handler)
                continue
            except ModelSwitched:
                # a shadow queue without a model has nothing to serve
                self._entered[queue].set()
                self._stop.after_batch.wait(NO_MODEL_SECONDS)
                continue
            except ProviderUnavailable as error:
                log.warning("queue %s: %s", queue, error)
                self._stop.after_batch.wait(random.uniform(0.5, 1))
                continue
            except BaseException as error:
                if is_away(error):
                    log.warning("queue %s: %s", queue, error)
                    self._stop.after_batch.wait(random.uniform(0.5, 1))
                    continue
                log.exception("queue %s failed", queue)
                self._failures[queue] = f"{type(error).__name__}: {error}"
                # a queue that fails does not keep this worker from replacing the one before
                self._entered[queue].set()
            if time.monotonic() - began > 2 * REOPEN_SECONDS[1]:
                pause = REOPEN_SECONDS[0]
            self._stop.after_batch.wait(pause)
            pause = min(2 * pause, REOPEN_SECONDS[1])

    def _serve_by(self, handler: Handler) -> None:
        """Runs until the worker must stop, or the handler must be opened again."""
        while not self._stop.after_batch.is_set():
            try:
                self._run_worker(handler)
                return
            except ProviderUnavailable as error:
                # the worker has snoozed the queue: the next claim waits until then
                log.warning("queue %s waits: %s", handler.queue, error)

    def _run_worker(self, handler: Handler) -> None:
        before = Summary()

        def progress(summary: Summary) -> None:
            nonlocal before
            if summary.counts == before.counts:
                return
            with self._lock:
                self._work.setdefault(handler.queue, QueueWork()).add(summary, before)
                before = Summary(summary.counts.copy(), summary.figures.copy(), busy_seconds=summary.busy_seconds)
                self._last_job = time.monotonic()

        worker = QueueWorker(
            self._database_url,
            handler,
            serve=True,
            stop=self._stop,
            on_enter=self._entered[handler.queue].set,
            on_progress=progress,
        )
        self._workers[handler.queue] = worker
        progress(worker.run())
