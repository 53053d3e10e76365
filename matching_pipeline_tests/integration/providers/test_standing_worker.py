"""A standing worker that asks a provider pays once for a request under way when it must end or loses the database."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from matching_pipeline.db.connections import Connection, connect
from matching_pipeline.db.embedded import start_embedded
from matching_pipeline.db.migrations import migrate
from matching_pipeline.handlers import registry
from matching_pipeline.queues.handler import Handler
from matching_pipeline.queues.standing import StandingWorker
from matching_pipeline.settings import SAMPLE_PICTURES, Settings
from matching_pipeline.sources.attach import attach, make_example_tables
from matching_pipeline_tests.conftest import EXAMPLES
from matching_pipeline_tests.fixtures.app import App
from matching_pipeline_tests.fixtures.openai_server import KEY, Fault, OpenAIServer, server_error
from matching_pipeline_tests.integration.conftest import until

WORKER = """
import os, signal
from matching_pipeline.handlers import registry
from matching_pipeline.queues.standing import StandingWorker
from matching_pipeline.settings import Settings
from matching_pipeline.sources.documents import declared

def interrupt(*_):
    raise KeyboardInterrupt

signal.signal(signal.SIGTERM, interrupt)
settings = Settings()
url = settings.database_url
opened = lambda queue: registry.open_handler(settings, url, declared(settings), queue)
with StandingWorker(url, ["job_embeddings"], opened, version="1", run_id="a run") as worker:
    for _ in worker.serve():
        pass
"""


@contextmanager
def start(database_url: str, server: OpenAIServer) -> "Iterator[subprocess.Popen[bytes]]":
    provider = {"DATABASE_URL": database_url, "OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": server.url}
    with subprocess.Popen([sys.executable, "-c", WORKER], env={**os.environ, **provider}) as worker:
        try:
            yield worker
        except BaseException:
            worker.kill()
            raise


def await_request(server: OpenAIServer) -> None:
    deadline = time.monotonic() + 60
    while not server.asked:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_sigterm_in_a_long_request_releases_the_job_and_keeps_the_answer(
    server: OpenAIServer, connection: Connection, database_url: str, settings_for: Callable[..., Settings]
) -> None:
    server.faults.append(Fault(delay=4))
    connection.execute("insert into jobs (title) values ('Baker')")
    with start(database_url, server) as worker:
        await_request(server)
        worker.send_signal(signal.SIGTERM)
        until(connection, "exists (select from job_queue where status = 'pending' and attempts = snoozes)")
        assert worker.wait(60) != 0
    assert connection.execute("select count(*) from matching_pipeline.ai_answers").fetchone() == (1,)
    summary = registry.process_due(settings_for(), database_url, EXAMPLES, "job_embeddings")
    assert summary.completed == 1
    assert server.asked.total() == 1


def test_while_a_provider_is_down_its_queue_waits_and_comes_back_and_other_queues_go_on(
    server: OpenAIServer, connection: Connection, database_url: str, settings_for: Callable[..., Settings]
) -> None:
    settings = settings_for(image_model="local", image_file_roots=str(SAMPLE_PICTURES))
    queues = ["job_embeddings", "image_ai"]

    def opened(queue: str) -> AbstractContextManager[Handler]:
        return registry.open_handler(settings, database_url, EXAMPLES, queue)

    server.fault = server_error(503, retry_after="1")
    app = App(connection)
    lamp = next(SAMPLE_PICTURES.glob("**/*lamp*")).as_uri()
    with StandingWorker(database_url, queues, opened, version="1", run_id="a run") as worker:
        served = worker.serve()
        connection.execute("insert into jobs (title) values ('Baker')")
        until(connection, "exists (select from matching_pipeline.jobs where error_message like '%overloaded%')")
        app.product_image(app.product(), lamp)
        until(connection, "exists (select from image_ai)")
        server.fault = None
        until(connection, "exists (select from job_embeddings)")
        next(served)
        worker.require_no_failure()
    assert connection.execute(
        "select max(attempts - snoozes) from matching_pipeline.jobs where queue = 'job_embeddings'"
    ).fetchone() == (1,)


@pytest.fixture
def restartable() -> Iterator[tuple[str, Callable[[], None], Callable[[], None]]]:
    """A migrated database's URL, and what stops and starts its server."""
    folder = Path(tempfile.mkdtemp(prefix="mp-"))
    server = start_embedded(folder / "pg")
    with connect(server.get_uri()) as connection:
        migrate(connection)
        make_example_tables(connection)
        attach(connection, EXAMPLES)
    yield server.get_uri(), server.stop, server.ensure_postgres_running
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


def test_while_the_database_is_away_an_answer_is_kept_and_the_same_worker_goes_on(
    server: OpenAIServer, restartable: tuple[str, Callable[[], None], Callable[[], None]]
) -> None:
    url, stop, start_again = restartable
    server.faults.append(Fault(delay=2))
    with connect(url) as connection:
        connection.execute("insert into jobs (title) values ('Baker')")
    with start(url, server) as worker:
        await_request(server)
        go_away_and_come_back(url, stop, start_again)
        assert worker.poll() is None
        worker.terminate()
    assert server.asked.total() == 2


def go_away_and_come_back(url: str, stop: Callable[[], None], start_again: Callable[[], None]) -> None:
    """Meanwhile the answer to a request under way comes; afterwards another posting is embedded."""
    stop()
    time.sleep(4)  # the answer comes meanwhile
    start_again()
    with connect(url) as connection:
        until(connection, "exists (select from job_embeddings)")
        connection.execute("insert into jobs (title) values ('Welder')")
        until(connection, "(select count(*) from job_embeddings) = 2")
