"""The standing worker: all queues in one process, a thread each, relieved without a gap."""

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import pytest

from matching_pipeline.db.connections import Connection, connect
from matching_pipeline.errors import ConfigurationError, ModelSwitched, ProviderUnavailable
from matching_pipeline.queues import client, standing
from matching_pipeline.queues.client import Job
from matching_pipeline.queues.handler import Handler, Outcome
from matching_pipeline.queues.standing import QueuesFailed, StandingWorker
from matching_pipeline.queues.supervision import worker_states
from matching_pipeline_tests.fixtures.recording import MINUTE, SOURCE, RecordingHandler
from matching_pipeline_tests.integration.conftest import recorded, states, until

pytestmark = pytest.mark.usefixtures("records")

QUEUES = ("one", "two")


@pytest.fixture(autouse=True)
def short_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standing, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(standing, "IDLE_SECONDS", 0.5)
    monkeypatch.setattr(standing, "REOPEN_SECONDS", (0.05, 0.2))
    monkeypatch.setattr(standing, "NO_MODEL_SECONDS", 0.1)


class Bench:
    """Standing workers in threads, and what their handlers are to do."""

    def __init__(self, database_url: str, pool: ThreadPoolExecutor) -> None:
        self.database_url = database_url
        self.pool = pool
        self.handlers: dict[str, type[RecordingHandler]] = {}
        self.opened: list[str] = []
        self.work: list[dict[str, standing.QueueWork]] = []

    def start(self, **options: Any) -> Any:
        """The future of a worker that has entered."""
        with connect(self.database_url) as connection:
            newest = max((worker.id for worker in worker_states(connection)), default=0)
            future = self.pool.submit(self._serve, options)
            until(
                connection,
                f"exists (select from matching_pipeline.workers where entered_at is not null and id > {newest})",
            )
        return future

    def stop(self) -> None:
        with connect(self.database_url) as connection:
            client.stop_all(connection)

    def _serve(self, options: dict[str, Any]) -> None:
        worker = StandingWorker(
            self.database_url, QUEUES, self._open, **{"version": "1", "run_id": "a run", **options}
        )
        with worker:
            for _ in worker.serve():
                self.work.append(worker.take_work())
        self.work.append(worker.take_work())
        worker.require_no_failure()

    @contextmanager
    def _open(self, queue: str) -> Iterator[Handler]:
        self.opened.append(queue)
        handler = self.handlers.get(queue, RecordingHandler)()
        handler.queue = queue
        yield handler


@pytest.fixture
def bench(database_url: str) -> Iterator[Bench]:
    with ThreadPoolExecutor() as pool:
        bench = Bench(database_url, pool)
        yield bench
        bench.stop()


def enqueue(connection: Connection, queue: str, count: int = 1) -> None:
    client.enqueue(connection, queue, SOURCE, [str(uuid4()) for _ in range(count)])


def ids(connection: Connection) -> list[int]:
    return [worker.id for worker in worker_states(connection)]


def test_it_serves_all_queues_and_tells_what_was_done_in_each(bench: Bench, connection: Connection) -> None:
    future = bench.start()
    enqueue(connection, "one", 3)
    enqueue(connection, "two")
    until(connection, "(select count(*) from recorded) = 4")
    bench.stop()
    future.result(timeout=30)
    completed = {
        queue: sum(each[queue].counts["completed"] for each in bench.work if queue in each) for queue in QUEUES
    }
    assert completed == {"one": 3, "two": 1}
    assert ids(connection) == []


def test_a_slow_job_of_one_queue_holds_up_no_other(bench: Bench, connection: Connection) -> None:
    release = threading.Event()

    class Slow(RecordingHandler):
        def work(self, connection: Connection, jobs: Sequence[Job]) -> Iterator[list[Outcome]]:
            assert release.wait(30)
            yield from super().work(connection, jobs)

    bench.handlers["one"] = Slow
    bench.start()
    enqueue(connection, "one")
    until(connection, "exists (select from matching_pipeline.jobs where status = 'processing')")
    enqueue(connection, "two")
    until(connection, "exists (select from matching_pipeline.jobs where queue = 'two' and status = 'completed')")
    release.set()
    until(connection, "(select count(*) from recorded) = 2")


def test_its_row_says_that_it_is_alive_until_it_leaves(bench: Bench, connection: Connection) -> None:
    future = bench.start(run_id="this run", version="7")
    (state,) = worker_states(connection)
    assert (state.run_id, state.version, state.alive, state.entered, state.helps) == (
        "this run",
        "7",
        True,
        True,
        False,
    )
    bench.stop()
    future.result(timeout=30)
    assert worker_states(connection) == []


def test_its_successor_relieves_it_once_all_queues_are_served(bench: Bench, connection: Connection) -> None:
    first = bench.start()
    second = bench.start()
    first.result(timeout=30)
    assert not second.done()
    assert len(ids(connection)) == 1
    enqueue(connection, "one")
    until(connection, "exists (select from recorded)")


def test_jobs_that_come_during_a_hand_over_are_done_once(bench: Bench, connection: Connection) -> None:
    future = bench.start()
    for _ in range(5):
        enqueue(connection, "one", 5)
        successor = bench.start()
        enqueue(connection, "two", 5)
        future.result(timeout=30)
        future = successor
    until(connection, "not exists (select from matching_pipeline.jobs where status <> 'completed')")
    assert set(recorded(connection).values()) == {1}
    assert len(recorded(connection)) == 50


def test_a_helper_relieves_no_worker_and_leaves_when_nothing_is_due(bench: Bench, connection: Connection) -> None:
    standing_one = bench.start()
    helper = bench.start(helps=True)
    helper.result(timeout=30)
    assert not standing_one.done()


def test_a_bug_in_one_handler_leaves_the_other_queues_served_and_is_told_at_the_end(
    bench: Bench, connection: Connection
) -> None:
    class Buggy(RecordingHandler):
        def work(self, connection: Connection, jobs: Sequence[Job]) -> Iterator[list[Outcome]]:
            raise KeyError("a bug")

    bench.handlers["one"] = Buggy
    future = bench.start()
    enqueue(connection, "one")
    until(connection, "exists (select from matching_pipeline.workers where failures ? 'one')")
    enqueue(connection, "two")
    until(connection, "exists (select from matching_pipeline.jobs where queue = 'two' and status = 'completed')")
    del bench.handlers["one"]
    while recorded(connection).total() < 2:
        # a handler that was opened before may fail an attempt more
        connection.execute("update matching_pipeline.jobs set run_at = now() where status = 'pending'")
        connection.execute("notify matching_pipeline_jobs, 'one'")
        time.sleep(0.05)
    bench.start()
    with pytest.raises(QueuesFailed, match="queue one: KeyError: 'a bug'"):
        future.result(timeout=30)


def test_a_handler_that_cannot_be_opened_is_tried_again(bench: Bench, connection: Connection) -> None:
    broken = threading.Event()
    broken.set()

    class Misconfigured(RecordingHandler):
        def __init__(self) -> None:
            if broken.is_set():
                raise ConfigurationError("OPENAI_API_KEY: the server refuses it")

    bench.handlers["one"] = Misconfigured
    bench.start()
    enqueue(connection, "one")
    until(
        connection, "exists (select from matching_pipeline.workers where failures ->> 'one' like '%OPENAI_API_KEY%')"
    )
    broken.clear()
    until(connection, "exists (select from recorded)")


def test_a_provider_that_is_down_fails_no_queue_and_its_jobs_wait(bench: Bench, connection: Connection) -> None:
    class Down(RecordingHandler):
        def work(self, connection: Connection, jobs: Sequence[Job]) -> Iterator[list[Outcome]]:
            raise ProviderUnavailable("503", retry_after=MINUTE)
            yield

    bench.handlers["one"] = Down
    future = bench.start()
    enqueue(connection, "one")
    until(connection, "exists (select from matching_pipeline.jobs where status = 'pending' and run_at > now())")
    enqueue(connection, "two")
    until(connection, "exists (select from recorded)")
    assert bench.opened.count("one") == 1
    bench.stop()
    future.result(timeout=30)


def test_a_queue_without_a_model_is_served_as_soon_as_there_is_one(bench: Bench, connection: Connection) -> None:
    class Absent(RecordingHandler):
        def __init__(self) -> None:
            raise ModelSwitched("there is no shadow")

    bench.handlers["one"] = Absent
    bench.start()
    enqueue(connection, "one")
    del bench.handlers["one"]
    until(connection, "exists (select from recorded)")


def test_after_a_model_has_switched_the_handlers_are_opened_again(bench: Bench, connection: Connection) -> None:
    future = bench.start()
    opened = len(bench.opened)
    client.reopen_all(connection)
    deadline = time.monotonic() + 30
    while len(bench.opened) < opened + len(QUEUES):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    enqueue(connection, "one")
    until(connection, "exists (select from recorded)")
    assert not future.done()


def test_an_exception_releases_the_jobs_that_it_holds(bench: Bench, connection: Connection) -> None:
    stuck = threading.Event()

    class Stuck(RecordingHandler):
        def work(self, connection: Connection, jobs: Sequence[Job]) -> Iterator[list[Outcome]]:
            while True:
                stuck.set()
                time.sleep(0.05)
                yield []

    bench.handlers["one"] = Stuck
    enqueue(connection, "one", 3)
    worker = StandingWorker(bench.database_url, QUEUES, bench._open, version="1", run_id="a run")

    def serve_until_interrupted() -> None:
        with worker:
            for _ in worker.serve():
                if stuck.is_set():
                    raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        serve_until_interrupted()
    assert states(connection) == {"pending": 3}
    assert connection.execute("select count(*) from matching_pipeline.jobs where attempts > snoozes").fetchone() == (
        0,
    )


def test_a_worker_that_was_asked_for_starts_once(bench: Bench, connection: Connection) -> None:
    connection.execute("insert into matching_pipeline.workers (version) values ('1')")
    (asked,) = worker_states(connection)
    future = bench.pool.submit(bench._serve, {"requested": asked.id})
    until(connection, "exists (select from matching_pipeline.workers where entered_at is not null)")
    with pytest.raises(ConfigurationError, match="was started already"):
        bench._serve({"requested": asked.id})
    assert not future.done()


def test_its_session_is_opened_again_where_it_is_lost(bench: Bench, connection: Connection) -> None:
    future = bench.start()
    connection.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity "
        "where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'"
    )
    time.sleep(0.5)
    until(connection, "(select count(*) from pg_locks where locktype = 'advisory') >= 3")
    (state,) = worker_states(connection)
    assert state.alive
    enqueue(connection, "one")
    until(connection, "exists (select from recorded)")
    assert not future.done()


def test_a_run_that_starts_after_its_row_was_deleted_serves_all_the_same(
    bench: Bench, connection: Connection
) -> None:
    bench.start(requested=4711)
    assert ids(connection) != [4711]
    enqueue(connection, "one")
    until(connection, "exists (select from recorded)")


def test_an_error_of_the_database_that_comes_back_fails_the_queue(bench: Bench, connection: Connection) -> None:
    class TooSlow(RecordingHandler):
        def work(self, connection: Connection, jobs: Sequence[Job]) -> Iterator[list[Outcome]]:
            connection.execute("set statement_timeout = 1")
            connection.execute("select pg_sleep(1)")
            yield []

    bench.handlers["one"] = TooSlow
    future = bench.start()
    enqueue(connection, "one")
    until(connection, "exists (select from matching_pipeline.workers where failures ->> 'one' like 'QueryCanceled%')")
    bench.stop()
    with pytest.raises(QueuesFailed, match="queue one: QueryCanceled"):
        future.result(timeout=30)


def test_a_helper_that_works_at_a_long_job_does_not_leave(bench: Bench, connection: Connection) -> None:
    release = threading.Event()

    class Slow(RecordingHandler):
        def work(self, connection: Connection, jobs: Sequence[Job]) -> Iterator[list[Outcome]]:
            assert release.wait(30)
            yield from super().work(connection, jobs)

    bench.handlers["one"] = Slow
    helper = bench.start(helps=True)
    enqueue(connection, "one")
    until(connection, "exists (select from matching_pipeline.jobs where status = 'processing')")
    time.sleep(2 * standing.IDLE_SECONDS)
    assert not helper.done()
    release.set()
    helper.result(timeout=30)
