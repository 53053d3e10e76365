"""The common part of the laws of both kinds of pair: workers and rebuilds run, die and meet."""

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from typing import Any, TypeVar
from uuid import UUID

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from matching_pipeline.db.connections import Connection, connect
from matching_pipeline.db.transactions import GAVE_WAY
from matching_pipeline.errors import RebuildSuperseded
from matching_pipeline.handlers.publishing import PublishingHandler
from matching_pipeline.matches.writing import Figures
from matching_pipeline.queues import client, session
from matching_pipeline.queues.client import Job
from matching_pipeline.queues.handler import Handler, Outcome
from matching_pipeline.queues.worker import QueueWorker
from matching_pipeline.sources.enqueue import enqueue_resync
from matching_pipeline.sources.matcher import Matcher

Vector = tuple[float, ...]

DIMENSIONS = 4
# few directions, so that ties, equal images and scores at the threshold are common
vectors = st.sampled_from(
    [(1.0, 0.0, 0.0, 0.0), (0.0, 1.0, 0.0, 0.0), (1.0, 1.0, 1.0, 1.0), (1.0, 0.2, 0.1, 0.0), (0.9, 0.2, 0.3, 0.0)]
)
places = st.integers(0, 999)
"""Picks an element of a list, so that the work of the threads does not decide what is drawn next."""
limits = st.integers(1, 2)

LEVELS = ("read committed", "repeatable read", "serializable")

Element = TypeVar("Element")


def at(place: int, elements: Sequence[Element]) -> Element:
    return elements[place % len(elements)]


def upheavals(matcher: str, settings: Mapping[str, Sequence[float]], tables: Sequence[str]) -> st.SearchStrategy[str]:
    """Statements after which all lists are recomputed. They are one strategy: often, they hide faults."""
    return st.sampled_from(
        [
            *(
                f"update matching_pipeline.match_settings set {setting} = {value} where matcher = '{matcher}'"
                for setting, values in settings.items()
                for value in values
            ),
            *(f"truncate {table} cascade" for table in tables),
        ]
    )


class Killed(BaseException):
    """Stands for SIGKILL in a worker."""


@contextmanager
def reused_sessions() -> Iterator[None]:
    sessions = Sessions()
    with pytest.MonkeyPatch.context() as patch, closing(sessions):
        patch.setattr(session, "connect", sessions.open)
        yield


class Sessions:
    """Workers use them one after another, as each new one would plan all its statements again."""

    def __init__(self) -> None:
        self._free: list[Connection] = []

    def open(self, database_url: str) -> Connection:
        with suppress(IndexError):
            return self._free.pop()
        connection = connect(database_url)
        connection.close = lambda: self._give_back(connection)  # type: ignore[method-assign]
        return connection

    def _give_back(self, connection: Connection) -> None:
        """One that is lost closes; what the worker held goes with it."""
        with suppress(psycopg.OperationalError):
            connection.execute("select pg_advisory_unlock_all()")
            connection.execute("unlisten *")
            self._free.append(connection)

    def close(self) -> None:
        for connection in self._free:
            type(connection).close(connection)


class Law(RuleBasedStateMachine):
    """While threads process jobs and rebuild, rules change the app's rows. At the end the lists are compared."""

    connection: Connection
    database_url: str
    matcher: Matcher
    sources: Sequence[str]
    """of the app's rows that rules change"""

    def __init__(self) -> None:
        super().__init__()
        self.pool = ThreadPoolExecutor()
        self.running: list[Future[None]] = []
        self.level = LEVELS[0]

    def handlers(self) -> Sequence[Handler]:
        """The handlers of all queues that the app's rows pass through, in this order.

        Their batches are small, so that changes arrive between the batches of one worker.
        """
        raise NotImplementedError

    def rebuild_lists(self, connection: Connection) -> Figures:
        raise NotImplementedError

    def rows(self) -> Sequence[tuple[Any, ...]]:
        """The rows of the app's table, into which the matcher publishes."""
        raise NotImplementedError

    def expected_rows(self) -> Sequence[tuple[Any, ...]]:
        """The rows by the definition, which reads the mirror."""
        raise NotImplementedError

    def publish(self) -> None:
        """Writes the pairs that the app's table could not take before."""
        self.connection.execute("update matching_pipeline.jobs set run_at = now() where queue = 'publishing'")
        QueueWorker(self.database_url, PublishingHandler("publishing")).run()

    def mirror(self) -> tuple[set[Any], set[Any]]:
        """What the mirror has, and what it should have by the app's rows."""
        raise NotImplementedError

    def ids(self, table: str) -> list[UUID]:
        # ids of matches are random, and a run must be the same when it is repeated
        order = "left_id, right_id" if table == "matching_pipeline.matches" else "id"
        return [id for (id,) in self.connection.execute(f"select id from {table} order by {order}".encode())]

    @rule(place=places)
    def delete_a_match_by_hand(self, place: int) -> None:
        if ids := self.ids("matching_pipeline.matches"):
            self.connection.execute("delete from matching_pipeline.matches where id = %s", (at(place, ids),))

    @rule()
    def time_passes(self) -> None:
        """Back-offs end and leases expire, also of workers that live and are slow."""
        self.connection.execute(
            "update matching_pipeline.jobs set run_at = now() where status in ('pending', 'processing')"
        )

    @precondition(lambda self: len(self.running) < 3)
    @rule(workers=st.integers(1, 2))
    def start_workers(self, workers: int) -> None:
        self.running += [self.pool.submit(self.process) for _ in range(workers)]

    @precondition(lambda self: len(self.running) < 3)
    @rule()
    def begin_a_rebuild(self) -> None:
        self.running.append(self.pool.submit(self._rebuild_beside_others))

    @rule(moment=st.sampled_from(["work", "prepare_write", "write"]), place=places)
    def a_worker_is_killed(self, moment: str, place: int) -> None:
        with suppress(Killed):
            handler = at(place, self.handlers())
            QueueWorker(self.database_url, _dying(handler, self.database_url, moment)).run()

    @rule(place=places)
    def compare_a_table(self, place: int) -> None:
        enqueue_resync(self.connection, at(place, self.sources))

    @rule(level=st.sampled_from(LEVELS))
    def the_app_changes_its_isolation(self, level: str) -> None:
        self.level = level

    @rule()
    def a_rebuild_alone_corrects_all_lists(self) -> None:
        self.join()
        before = self.stored_ids()
        self.rebuild_lists(self.connection)
        assert self.rows() == self.expected_rows()
        after = self.stored_ids()
        assert {pair: before[pair] for pair in before.keys() & after.keys()} == {
            pair: after[pair] for pair in before.keys() & after.keys()
        }

    @rule(vector=vectors, place=places)
    def an_entity_that_gets_worse_leaves_its_lists(self, vector: Vector, place: int) -> None:
        """A rule of its own, as no other change makes the lists be recomputed that it leaves."""
        self.settle()
        self.change_a_listed_entity(vector, place)
        self.process()
        assert self.rows() == self.expected_rows()
        self.mirror_is_as_the_app_has_it()

    @rule()
    def lists_hold_the_law_once_the_queue_is_empty(self) -> None:
        self.start_workers(2)
        self.settle()
        self.mirror_is_as_the_app_has_it()
        assert self.rows() == self.expected_rows()
        written = self.written()
        figures = self.rebuild_lists(self.connection)
        assert (figures.added, figures.changed, figures.removed) == (0, 0, 0)
        assert self.written() == written

    def teardown(self) -> None:
        try:
            # without a set-up there is nothing to compare
            if hasattr(self, "app"):
                self.lists_hold_the_law_once_the_queue_is_empty()
        finally:
            self.pool.shutdown()

    def change_a_listed_entity(self, vector: Vector, place: int) -> None:
        raise NotImplementedError

    def settle(self) -> None:
        """Processes all jobs."""
        self.join()
        # three deaths use up a job's attempts, and a worker that found a lock busy snoozed its jobs for some seconds
        for handler in self.handlers():
            client.retry(self.connection, handler.queue)
        self.time_passes()
        self.process()
        unfinished = "select * from matching_pipeline.jobs where status in ('pending', 'processing')"
        assert self.connection.execute(unfinished).fetchall() == []

    def mirror_is_as_the_app_has_it(self) -> None:
        has, should_have = self.mirror()
        assert has == should_have

    def change(self, statement: str, *parameters: Any) -> None:
        """As the app does it, at the isolation that it has chosen."""
        self.connection.execute(f"set default_transaction_isolation = '{self.level}'".encode())
        try:
            self.connection.execute(statement.encode(), parameters)
        finally:
            self.connection.execute("reset default_transaction_isolation")

    def change_unseen(self, statement: str, *parameters: Any) -> None:
        """As a logical replication does it: no trigger fires."""
        self.connection.execute("set session_replication_role = replica")
        try:
            self.connection.execute(statement.encode(), parameters)
        finally:
            self.connection.execute("reset session_replication_role")
        for source in self.sources:
            enqueue_resync(self.connection, source)

    def join(self) -> None:
        running, self.running = self.running, []
        for thread in running:
            thread.result()

    def stored_ids(self) -> dict[tuple[Any, ...], UUID]:
        return {
            tuple(pair): id
            for id, *pair in self.connection.execute(
                "select id, left_id, right_id from matching_pipeline.matches where matcher = %s", (self.matcher.name,)
            )
        }

    def written(self) -> list[tuple[Any, ...]]:
        """Which rows there are, and when each was written."""
        return self.connection.execute("select id, computed_at from matching_pipeline.matches order by id").fetchall()

    def process(self) -> None:
        for handler in self.handlers():
            QueueWorker(self.database_url, _slow(handler)).run()

    def _rebuild_beside_others(self) -> None:
        # it raises where the app holds locks or a newer rebuild began, and leaves the other lists as they are
        with connect(self.database_url) as connection, suppress(*GAVE_WAY, RebuildSuperseded):
            self.rebuild_lists(connection)


def _slow(handler: Handler) -> Handler:
    """The handler with longer transactions, so that they meet others."""
    write = handler.write

    def write_slowly(connection: Connection, outcomes: Sequence[Outcome]) -> Mapping[str, int] | None:
        figures = write(connection, outcomes)
        time.sleep(0.01)
        return figures

    handler.write = write_slowly  # type: ignore[method-assign]
    return handler


def _dying(handler: Handler, database_url: str, moment: str) -> Handler:
    """The handler, whose session and process end at this moment of its first batch."""
    method = getattr(handler, moment)

    def die(connection: Connection, jobs: Sequence[Job] | Sequence[Outcome] = ()) -> None:
        if moment == "write":
            method(connection, jobs)
        with connect(database_url) as other:
            other.execute("select pg_terminate_backend(%s, 5000)", (connection.info.backend_pid,))
        raise Killed

    setattr(handler, moment, die)
    return handler


def hold_law(law: type[Law], database_url: str, examples: int) -> None:
    """Runs the same examples each time."""
    with connect(database_url) as connection, reused_sessions():
        law.connection, law.database_url = connection, database_url
        run_state_machine_as_test(
            law,
            settings=settings(
                max_examples=examples,
                # a run takes a second and its threads differ, so a search for a shorter one would take an hour
                phases=[Phase.generate],
                # short runs, as a rule after which all lists are recomputed hides earlier faults
                stateful_step_count=12,
                deadline=None,
                database=None,
                derandomize=True,
                suppress_health_check=list(HealthCheck),
            ),
        )
