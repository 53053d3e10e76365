"""The worker: what it does with jobs, by their outcomes, and when it stops."""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from matching_pipeline.db.connections import Connection, connect
from matching_pipeline.errors import ConfigurationError, PermanentFailure, ProviderUnavailable, TransientFailure
from matching_pipeline.queues import client
from matching_pipeline.queues.client import Job
from matching_pipeline.queues.handler import LockBusy, Outcome
from matching_pipeline.queues.progress import StopSignal, Summary
from matching_pipeline.queues.worker import LOOK_AGAIN_AT_LOCKED_SECONDS, LOOK_AGAIN_SECONDS, QueueWorker
from matching_pipeline_tests.fixtures.recording import MINUTE, QUEUE, SOURCE, RecordingHandler
from matching_pipeline_tests.integration.conftest import (
    claim,
    counted_attempts,
    enqueue,
    make_due,
    recorded,
    states,
    until,
)

pytestmark = pytest.mark.usefixtures("records")


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as pool:
        yield pool


def serving(pool: ThreadPoolExecutor, connection: Connection, database_url: str, **options: Any) -> Future[Summary]:
    """A worker that waits for jobs in a thread."""
    workers = client.queue_state(connection, QUEUE).workers
    future = pool.submit(QueueWorker(database_url, RecordingHandler(), serve=True, **options).run)
    until(connection, f"(matching_pipeline.queue_state('{QUEUE}')).workers > {workers}")
    return future


class Failing(RecordingHandler):
    """Its work yields the first job, and then raises."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def work(self, connection: Connection, jobs: Sequence[Job]) -> Iterator[list[Outcome]]:
        yield [Outcome(jobs[0], "fine")]
        raise self.error


class Poisoned(RecordingHandler):
    def work(self, connection: Connection, jobs: Sequence[Job]) -> Iterator[list[Outcome]]:
        first, *others = jobs
        yield [Outcome(first, "poison"), *(Outcome(job, "fine") for job in others)]


class Slow(RecordingHandler):
    lease = timedelta(seconds=3)

    def work(self, connection: Connection, jobs: Sequence[Job]) -> Iterator[list[Outcome]]:
        for _ in range(40):
            time.sleep(0.1)
            yield []
        yield [Outcome(job, "fine") for job in jobs]


def test_an_empty_queue_lets_it_go_at_once(database_url: str) -> None:
    summary = QueueWorker(database_url, RecordingHandler()).run()
    assert summary.seconds < 5
    assert not summary.counts
    assert summary.stopped_because == "nothing is due"


def test_it_does_all_that_is_due(connection: Connection, database_url: str) -> None:
    ids = enqueue(connection, 50)
    progress: list[int] = []
    worker = QueueWorker(
        database_url, RecordingHandler(), on_progress=lambda summary: progress.append(summary.completed)
    )
    summary = worker.run()
    assert recorded(connection) == dict.fromkeys(ids, 1)
    assert progress == [20, 40, 50]
    assert summary.counts == {"completed": 50, "failed": 0, "lost": 0}


def test_a_waiting_worker_takes_what_arrives_at_once(
    connection: Connection, database_url: str, pool: ThreadPoolExecutor
) -> None:
    worker = serving(pool, connection, database_url)
    enqueue(connection)
    started = time.monotonic()
    until(connection, "exists (select from recorded)")
    assert time.monotonic() - started < LOOK_AGAIN_SECONDS / 2
    client.stop_all(connection)
    assert worker.result().stopped_because == "it was told to stop"


def test_a_waiting_worker_takes_what_becomes_due(
    connection: Connection, database_url: str, pool: ThreadPoolExecutor
) -> None:
    enqueue(connection)
    client.snooze(connection, claim(connection), timedelta(seconds=0.5), None)
    worker = serving(pool, connection, database_url)
    until(connection, "exists (select from recorded)")
    client.stop_all(connection)
    assert worker.result().seconds < 4


def test_a_stop_signal_ends_it_after_its_batch(
    connection: Connection, database_url: str, pool: ThreadPoolExecutor
) -> None:
    stop = StopSignal()
    worker = serving(pool, connection, database_url, stop=stop)
    enqueue(connection)
    until(connection, "exists (select from recorded)")
    stop.set()
    client.wake(connection)
    assert worker.result(timeout=30).stopped_because == "it was told to stop"


def test_a_stop_signal_for_at_once_releases_the_rest_of_the_batch(
    connection: Connection, database_url: str, pool: ThreadPoolExecutor
) -> None:
    stop = StopSignal()

    class Stopped(RecordingHandler):
        def work(self, connection: Connection, jobs: Sequence[Job]) -> Iterator[list[Outcome]]:
            yield [Outcome(jobs[0], "fine")]
            stop.set(at_once=True)
            yield []
            raise AssertionError("it should have left")

    enqueue(connection, 3)
    assert QueueWorker(database_url, Stopped(), serve=True, stop=stop).run().completed == 1
    assert states(connection) == {"completed": 1, "pending": 2}
    assert sorted(counted_attempts(connection)) == [0, 0, 1]


def test_told_to_open_its_handler_again_it_leaves(
    connection: Connection, database_url: str, pool: ThreadPoolExecutor
) -> None:
    worker = serving(pool, connection, database_url)
    client.reopen_all(connection)
    assert worker.result(timeout=30).stopped_because == "its handler must be opened again"


def test_told_to_stop_it_finishes_its_batch(connection: Connection, database_url: str) -> None:
    enqueue(connection, 100)
    with connect(database_url) as other:
        summary = QueueWorker(database_url, RecordingHandler(), on_progress=lambda _: client.stop_all(other)).run()
    # the call may take a moment to arrive, in which the next batch is claimed
    assert summary.completed in (20, 40)
    assert states(connection) == {"completed": summary.completed, "pending": 100 - summary.completed}


def test_with_all_slots_taken_it_leaves(connection: Connection, database_url: str) -> None:
    enqueue(connection)
    assert client.take_worker_slot(connection, QUEUE, 1)
    summary = QueueWorker(database_url, RecordingHandler(), slots=1).run()
    assert summary.stopped_because == "as many workers of the queue as may be are alive already"
    assert states(connection) == {"pending": 1}


def test_two_workers_at_once_do_each_job_once(
    connection: Connection, database_url: str, pool: ThreadPoolExecutor
) -> None:
    ids = enqueue(connection, 500)
    workers = [pool.submit(QueueWorker(database_url, RecordingHandler()).run) for _ in range(2)]
    assert sum(worker.result().completed for worker in workers) == 500
    assert recorded(connection) == dict.fromkeys(ids, 1)


def test_failures_follow_their_kind(connection: Connection, database_url: str) -> None:
    class Mixed(RecordingHandler):
        def work(self, connection: Connection, jobs: Sequence[Job]) -> Iterator[list[Outcome]]:
            fine, transient, permanent = jobs
            yield [Outcome(fine, "fine"), Outcome(transient, failure=TransientFailure("slow host"))]
            yield [Outcome(permanent, failure=PermanentFailure("not an image"))]

    enqueue(connection, 3)
    summary = QueueWorker(database_url, Mixed()).run()
    assert summary.counts == {"completed": 1, "failed": 2, "lost": 0}
    rows = connection.execute("select status, error_message from matching_pipeline.jobs order by status").fetchall()
    assert rows == [("completed", None), ("failed", "not an image"), ("pending", "slow host")]
    assert connection.execute("select count(*) from forgotten").fetchone() == (2,)


def test_a_provider_that_is_down_snoozes_the_queue_without_an_attempt(
    connection: Connection, database_url: str
) -> None:
    enqueue(connection, 30)
    with pytest.raises(ProviderUnavailable, match="503"):
        QueueWorker(database_url, Failing(ProviderUnavailable("503", retry_after=MINUTE))).run()
    assert states(connection) == {"completed": 1, "pending": 29}
    assert sorted(counted_attempts(connection)) == [0] * 29 + [1]
    seconds_to_next = client.queue_state(connection, QUEUE).seconds_to_next
    assert seconds_to_next is not None
    assert 55 < seconds_to_next < 75


@pytest.mark.parametrize(
    "error",
    [ConfigurationError("wrong key"), KeyboardInterrupt(), psycopg.errors.QueryCanceled()],
)
def test_what_ends_the_run_gives_the_rest_back(
    connection: Connection, database_url: str, error: BaseException
) -> None:
    enqueue(connection, 3)
    with pytest.raises(type(error)):
        QueueWorker(database_url, Failing(error)).run()
    assert states(connection) == {"completed": 1, "pending": 2}
    assert sorted(counted_attempts(connection)) == [0, 0, 1]
    assert client.queue_state(connection, QUEUE).due


def test_a_job_that_brings_out_a_bug_is_found_and_fails_alone(connection: Connection, database_url: str) -> None:
    ids = enqueue(connection, 4)

    class Buggy(RecordingHandler):
        def work(self, connection: Connection, jobs: Sequence[Job]) -> Iterator[list[Outcome]]:
            if ids[2] in {job.key for job in jobs}:
                raise RuntimeError("a bug")
            yield from super().work(connection, jobs)

    # four together, two, alone; then its two other attempts
    raised = 0
    while not states(connection)["failed"]:
        make_due(connection)
        try:
            QueueWorker(database_url, Buggy()).run()
        except RuntimeError:
            raised += 1
    make_due(connection)
    QueueWorker(database_url, Buggy()).run()
    assert states(connection) == {"completed": 3, "failed": 1}
    assert raised == 5
    ((reason,),) = connection.execute("select error_message from matching_pipeline.jobs where status = 'failed'")
    assert reason == "RuntimeError: a bug"


def test_jobs_that_the_handler_forgot_are_released(connection: Connection, database_url: str) -> None:
    class Forgetful(RecordingHandler):
        batch_size = 2

        def work(self, connection: Connection, jobs: Sequence[Job]) -> Iterator[list[Outcome]]:
            yield [Outcome(jobs[0], "fine")]

    ids = enqueue(connection, 5)
    QueueWorker(database_url, Forgetful()).run()
    assert recorded(connection) == dict.fromkeys(ids, 1)


def test_only_the_job_that_the_database_refuses_counts_an_attempt(connection: Connection, database_url: str) -> None:
    enqueue(connection, 20)
    summary = QueueWorker(database_url, Poisoned()).run()
    assert summary.counts == {"completed": 19, "failed": 1, "lost": 0}
    assert states(connection) == {"completed": 19, "pending": 1}
    for _ in range(2):
        make_due(connection)
        QueueWorker(database_url, Poisoned()).run()
    ((reason,),) = connection.execute("select error_message from matching_pipeline.jobs where status = 'failed'")
    assert "recorded_result_check" in reason
    assert len(recorded(connection)) == 19


def test_while_another_session_excludes_writing_jobs_are_released(connection: Connection, database_url: str) -> None:
    class Excluded(RecordingHandler):
        def write(self, connection: Connection, outcomes: Sequence[Outcome]) -> None:
            raise LockBusy("a rebuild writes")

    enqueue(connection, 3)
    assert QueueWorker(database_url, Excluded()).run().counts == {"snoozed": 3}
    assert counted_attempts(connection) == [0, 0, 0]
    seconds_to_next = client.queue_state(connection, QUEUE).seconds_to_next
    assert seconds_to_next == pytest.approx(5, abs=1)


def test_the_lease_is_renewed_during_long_work(
    connection: Connection, database_url: str, pool: ThreadPoolExecutor
) -> None:
    ids = enqueue(connection, 3)
    worker = pool.submit(QueueWorker(database_url, Slow()).run)
    until(connection, "exists (select from matching_pipeline.jobs where status = 'processing')")
    while not worker.done():
        assert claim(connection) == []
        time.sleep(0.02)
    assert worker.result().completed == 3
    assert recorded(connection) == dict.fromkeys(ids, 1)


@pytest.mark.parametrize("failure", [None, PermanentFailure("not an image")])
def test_the_result_of_a_lost_lease_is_not_written(
    connection: Connection, database_url: str, failure: PermanentFailure | None
) -> None:
    class RebuildSuperseded(RecordingHandler):
        def work(self, _: Connection, jobs: Sequence[Job]) -> Iterator[list[Outcome]]:
            make_due(connection)
            assert len(claim(connection)) == 1
            yield [Outcome(job, "fine", failure) for job in jobs]

    enqueue(connection)
    assert QueueWorker(database_url, RebuildSuperseded()).run().counts == {"completed": 0, "failed": 0, "lost": 1}
    assert states(connection) == {"processing": 1}
    assert not recorded(connection)
    assert connection.execute("select count(*) from forgotten").fetchone() == (0,)


def test_work_in_an_open_transaction_of_the_app_is_waited_for(
    connection: Connection, database_url: str, pool: ThreadPoolExecutor
) -> None:
    class Counting(QueueWorker):
        claims = 0

        def _claim(self) -> list[Job]:
            self.claims += 1
            return super()._claim()

    ids = enqueue(connection)
    worker = Counting(database_url, RecordingHandler())
    began = time.monotonic()
    with connection.transaction():
        client.enqueue(connection, QUEUE, SOURCE, ids)
        running = pool.submit(worker.run)
        time.sleep(1)
    assert running.result(timeout=30).completed == 1
    assert worker.claims < 10 + (time.monotonic() - began) / LOOK_AGAIN_AT_LOCKED_SECONDS
