"""Enqueuing without NOTIFY, for an app that commits in two phases or feels the lock that NOTIFY takes at commit."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from matching_pipeline.db.connections import Connection, connect
from matching_pipeline.queues import client
from matching_pipeline.queues import worker as queue_worker
from matching_pipeline.queues.client import Job
from matching_pipeline.queues.worker import QueueWorker
from matching_pipeline.sources.attach import attach, set_notify
from matching_pipeline_tests.conftest import EXAMPLES
from matching_pipeline_tests.fixtures.command import run_command
from matching_pipeline_tests.fixtures.notices import payloads
from matching_pipeline_tests.fixtures.postings import JobBoard, work_postings
from matching_pipeline_tests.fixtures.recording import RecordingHandler
from matching_pipeline_tests.fixtures.studio import Studio
from matching_pipeline_tests.integration.conftest import until
from matching_pipeline_tests.integration.school import School

QUEUE = "job_embeddings"


class Counting(QueueWorker):
    """Counts its claims. The jobs are those of an attached queue."""

    claims = 0

    def _claim(self) -> list[Job]:
        self.claims += 1
        return super()._claim()


@pytest.fixture
def listener(database_url: str) -> Iterator[Connection]:
    with connect(database_url) as connection:
        client.listen(connection)
        yield connection


@contextmanager
def serving(database_url: str) -> Iterator[Counting]:
    handler = RecordingHandler()
    handler.queue = QUEUE
    worker = Counting(database_url, handler, serve=True)
    with ThreadPoolExecutor() as pool, connect(database_url) as session:
        running = pool.submit(worker.run)
        until(session, f"(matching_pipeline.queue_state('{QUEUE}')).workers = 1")
        try:
            yield worker
        finally:
            client.stop_all(session)
            running.result(timeout=30)


@contextmanager
def prepared(connection: Connection) -> Iterator[None]:
    """Does what follows in a transaction that another program commits."""
    connection.execute("begin")
    yield
    connection.execute("prepare transaction 'of the test'")


def commit_prepared(connection: Connection) -> None:
    connection.execute("commit prepared 'of the test'")


def test_nothing_is_announced(connection: Connection, listener: Connection) -> None:
    set_notify(connection, False)
    board = JobBoard(connection)
    job = board.post()
    client.enqueue(connection, f"{QUEUE}_shadow", "posting", [str(job)])
    board.fail(job)
    client.retry(connection, QUEUE)
    board.run("insert into embedding_queue (job_id) values (%s)", job)
    assert payloads(listener) == []
    assert not client.queue_state(connection, QUEUE).announced

    set_notify(connection, True)
    board.post()
    assert payloads(listener) == [QUEUE]
    assert client.queue_state(connection, QUEUE).announced


def test_asking_for_pictures_announces_nothing(studio: Studio, listener: Connection) -> None:
    set_notify(studio.connection, False)
    studio.ask(studio.project())
    assert payloads(listener) == []


def test_it_holds_for_sessions_that_are_open(connection: Connection, listener: Connection, database_url: str) -> None:
    with connect(database_url) as app:
        board = JobBoard(app)
        board.post()
        set_notify(connection, False)
        board.post()
    assert payloads(listener) == [QUEUE]


def test_an_app_can_say_it_for_one_transaction(connection: Connection, listener: Connection) -> None:
    board = JobBoard(connection)
    with connection.transaction():
        connection.execute("set local matching_pipeline.notify = 'off'")
        board.post()
    assert payloads(listener) == []
    board.post()
    assert payloads(listener) == [QUEUE]


def test_the_command_passes_the_setting_on(connection: Connection, database_url: str, tmp_path: Path) -> None:
    assert run_command(tmp_path, "attach", DATABASE_URL=database_url, ENQUEUE_NOTIFY="false").returncode == 0
    assert connection.execute("select distinct notify from matching_pipeline.queues").fetchall() == [(False,)]


def test_attaching_again_leaves_it_and_a_new_queue_is_like_the_others(connection: Connection) -> None:
    set_notify(connection, False)
    connection.execute("delete from matching_pipeline.queues where name = 'generated_images'")
    attach(connection, EXAMPLES)
    queues = connection.execute("select count(*), bool_or(notify) from matching_pipeline.queues").fetchall()
    assert queues == [(len(EXAMPLES.queues), False)]


@pytest.mark.usefixtures("records")
def test_a_waiting_worker_looks_for_jobs_ten_times_a_second(connection: Connection, database_url: str) -> None:
    set_notify(connection, False)
    board = JobBoard(connection)
    with serving(database_url) as worker:
        time.sleep(0.3)
        claims, began = worker.claims, time.monotonic()
        time.sleep(1)
        board.post()
        until(connection, "exists (select from recorded)")
        seconds = time.monotonic() - began
    assert seconds < 2
    assert worker.claims - claims < 5 + 10 * seconds


@pytest.mark.usefixtures("records")
def test_a_worker_that_waits_already_sees_the_change_when_it_next_looks(
    connection: Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_worker, "LOOK_AGAIN_SECONDS", 0.5)
    board = JobBoard(connection)
    with serving(database_url):
        set_notify(connection, False)
        board.post()
        until(connection, "exists (select from recorded)")


def test_with_notify_a_transaction_cannot_be_prepared(connection: Connection) -> None:
    board = JobBoard(connection)
    with pytest.raises(psycopg.errors.FeatureNotSupported, match="NOTIFY"), prepared(connection):
        board.post()


@pytest.mark.parametrize("statement", ["select", "set local matching_pipeline.notify = 'off'"])
def test_a_prepared_transaction_enqueues_when_it_is_committed(
    connection: Connection, database_url: str, statement: str
) -> None:
    set_notify(connection, statement != "select")
    board = JobBoard(connection)
    with prepared(connection):
        connection.execute(statement.encode())
        job = board.post()
    assert work_postings(database_url).completed == 0
    commit_prepared(connection)
    work_postings(database_url)
    assert board.embedded() == {job}


def test_edits_erasures_and_requests_can_be_prepared(
    connection: Connection, database_url: str, tmp_path: Path
) -> None:
    set_notify(connection, False)
    school, board, studio = School(connection, database_url), JobBoard(connection), Studio(connection, tmp_path)
    man, woman = school.face_of("male"), school.face_of("female")
    job, project = board.post(), studio.project()
    school.process()
    work_postings(database_url)
    assert (len(school.pairs()), board.embedded()) == (1, {job})
    school.settle()
    with prepared(connection):
        board.run("update jobs set title = 'Teacher'")
        board.product_image(board.product())
        school.run("update profiles set school = 'HUST' where id = (select user_id from faces where id = %s)", man)
        school.run("delete from faces where id = %s", woman)
        studio.ask(project)
    # what is not committed holds up no other transaction of the app
    connection.execute("set lock_timeout = '1s'")
    board.post()
    school.face_of("female")
    commit_prepared(connection)
    assert school.pairs() == set()
    queues = board.run("select distinct queue from matching_pipeline.jobs order by queue")
    assert queues == ["generated_images", "image_ai", QUEUE, "matches_face"]
