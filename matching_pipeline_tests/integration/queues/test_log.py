"""What a worker logs: a line an event, which names queue, source and job, and nothing of what the job is about."""

import logging
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from matching_pipeline.cli.follow import LogFollower
from matching_pipeline.db.connections import Connection
from matching_pipeline.errors import PermanentFailure, ProviderUnavailable
from matching_pipeline.logs import log_to_stderr
from matching_pipeline.queues.client import Job
from matching_pipeline.queues.handler import LockBusy, Outcome
from matching_pipeline.queues.worker import QueueWorker
from matching_pipeline_tests.fixtures.recording import QUEUE, SOURCE, RecordingHandler
from matching_pipeline_tests.integration.conftest import claim, enqueue, make_due

pytestmark = pytest.mark.usefixtures("records")

Work = Callable[[Connection, Sequence[Job]], Iterator[list[Outcome]]]


@pytest.fixture(autouse=True)
def everything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "matching_pipeline")


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    """What the package logged: psycopg warns of a broken pipeline at times."""
    ours = [record for record in caplog.records if record.name.startswith("matching_pipeline")]
    return [(record.levelname, record.getMessage()) for record in ours]


def work(database_url: str, how: Work) -> None:
    handler = RecordingHandler()
    handler.work = how  # type: ignore[method-assign, assignment]
    QueueWorker(database_url, handler).run()


def test_a_batch_is_two_lines_with_queue_source_and_jobs_as_extra(
    connection: Connection, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    keys = enqueue(connection, 3)
    QueueWorker(database_url, RecordingHandler()).run()
    assert lines(caplog) == [
        ("INFO", f"{QUEUE} claimed 3 jobs"),
        ("INFO", f"{QUEUE} completed 3 jobs"),
    ]
    ids = {str(id) for (id,) in connection.execute("select id from matching_pipeline.jobs")}
    for record in caplog.records:
        assert (record.queue, record.source, set(record.job)) == (QUEUE, [SOURCE], ids)  # type: ignore[attr-defined]
        assert not any(key in str(vars(record)) for key in keys)


def test_a_failure_has_its_class_and_reason(
    connection: Connection, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    enqueue(connection)
    work(
        database_url,
        lambda session, jobs: iter([[Outcome(jobs[0], failure=PermanentFailure("not an image"))]]),
    )
    ((job,),) = connection.execute("select id from matching_pipeline.jobs").fetchall()
    assert lines(caplog)[1:] == [
        ("WARNING", f"{QUEUE} job {job} of {SOURCE} failed for good: PermanentFailure: not an image")
    ]


def test_a_busy_lock_a_lost_lease_and_a_deleted_job(
    connection: Connection, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    def take_over(session: Connection, jobs: Sequence[Job]) -> Iterator[list[Outcome]]:
        wait, taken, deleted = jobs
        yield [Outcome(wait, must_wait=LockBusy("a rebuild writes"))]
        make_due(connection)
        connection.execute("delete from matching_pipeline.jobs where id in (%s, %s)", (deleted.id, wait.id))
        assert len(claim(connection)) == 1
        yield [Outcome(taken, "fine"), Outcome(deleted, "fine")]

    enqueue(connection, 3)
    work(database_url, take_over)
    assert lines(caplog)[1:] == [
        ("INFO", f"{QUEUE} snoozed 1 job for 5 s: a rebuild writes"),
        ("WARNING", f"{QUEUE} lost the lease of 1 job: the results are not written"),
    ]


def test_a_provider_that_is_down_and_a_split_batch(
    connection: Connection, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    def stop(session: Connection, jobs: Sequence[Job]) -> Iterator[list[Outcome]]:
        yield [Outcome(jobs[0], "poison"), Outcome(jobs[1], "fine")]
        raise ProviderUnavailable("it is down", timedelta(seconds=10))

    enqueue(connection, 2)
    with pytest.raises(ProviderUnavailable):
        work(database_url, stop)
    told = lines(caplog)[1:]
    assert told[0][0] == "WARNING"
    assert told[0][1].startswith(f"{QUEUE} split a batch of 2 jobs: new row for relation")
    assert ("INFO", f"{QUEUE} completed 1 job") in told
    assert any(f"{QUEUE} snoozed the queue for 1" in line for level, line in told if level == "WARNING")


def test_the_console_of_dev_shows_warnings_and_with_verbose_all(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dagster_log = tmp_path / "dagster.log"
    dagster_log.write_text("2026-01-01 00:00:00 WARNING matching_pipeline: of the last run\n")
    quiet, verbose = LogFollower(dagster_log, verbose=False), LogFollower(dagster_log, verbose=True)
    logger = logging.getLogger("matching_pipeline")
    before = logger.level, list(logger.handlers)
    try:
        log_to_stderr(logging.INFO)
        logger.info("claimed")
        logger.warning("failed")
    finally:
        logger.setLevel(before[0])
        logger.handlers = before[1]
    written = capsys.readouterr().err
    with dagster_log.open("a") as log:
        log.write("a line of Dagster's\n" + written + "half a li")
    quiet()
    assert capsys.readouterr().err.count("\n") == 1
    verbose()
    assert capsys.readouterr().err == written
