"""A worker with two sessions: while one claims or writes a batch, the work of the other goes on."""

from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from threading import Barrier, BrokenBarrierError, Event, current_thread
from typing import Literal

import pytest

from matching_pipeline.db.connections import Connection
from matching_pipeline.errors import ProviderUnavailable
from matching_pipeline.queues.client import Job
from matching_pipeline.queues.handler import Outcome
from matching_pipeline.queues.progress import StopSignal, Summary
from matching_pipeline.queues.worker import QueueWorker
from matching_pipeline_tests.fixtures.recording import RecordingHandler
from matching_pipeline_tests.integration.conftest import counted_attempts, enqueue, recorded, states

pytestmark = pytest.mark.usefixtures("records")


class Shared(RecordingHandler):
    """Calls `during` in each batch, with whether the second session does it."""

    two_sessions: Literal[True] = True

    def __init__(self, during: Callable[[bool], object]) -> None:
        self._during = during

    def work(self, connection: Connection, jobs: Sequence[Job]) -> Iterator[list[Outcome]]:
        first, *others = jobs
        yield [Outcome(first, "fine")]
        self._during(current_thread().name.endswith("second"))
        yield [Outcome(job, "fine") for job in others]


def test_two_batches_are_done_at_once_and_each_job_once(connection: Connection, database_url: str) -> None:
    together, met = Barrier(2), Event()

    def meet(second: bool) -> None:
        if not met.is_set():
            together.wait(30)
            met.set()

    ids = enqueue(connection, 45)
    told: list[int] = []
    worker = QueueWorker(database_url, Shared(meet), on_progress=lambda summary: told.append(summary.completed))
    assert worker.run().completed == 45
    assert recorded(connection) == dict.fromkeys(ids, 1)
    assert told == sorted(told)


def test_less_than_a_batch_needs_no_second_session(connection: Connection, database_url: str) -> None:
    enqueue(connection, 19)
    seconds: list[bool] = []
    QueueWorker(database_url, Shared(seconds.append)).run()
    assert seconds == [False]


def test_jobs_that_the_last_batch_of_the_second_session_enqueues_are_done(
    connection: Connection, database_url: str
) -> None:
    claimed, told, first_waits = Event(), [0], Event()

    class Enqueues(Shared):
        def work(self, connection: Connection, jobs: Sequence[Job]) -> Iterator[list[Outcome]]:
            if current_thread().name.endswith("second") and not claimed.is_set():
                claimed.set()
                assert first_waits.wait(30)
                enqueue(connection, 3)
            assert claimed.wait(30)
            yield [Outcome(job, "fine") for job in jobs]

    def note(summary: Summary) -> None:
        told.append(summary.completed)
        # it reports its batch, and then that it waits
        if told[-2:] == [20, 20]:
            first_waits.set()

    enqueue(connection, 40)
    worker = QueueWorker(database_url, Enqueues(lambda second: None), on_progress=note)
    assert worker.run().completed == 43
    assert states(connection) == {"completed": 43}


@pytest.mark.parametrize("who_fails", ["first", "second"])
def test_an_error_of_one_ends_both_and_loses_nothing(
    connection: Connection, database_url: str, who_fails: str
) -> None:
    together = Barrier(2)

    def fail(second: bool) -> None:
        try:
            together.wait(30)
        except BrokenBarrierError:
            return
        if second == (who_fails == "second"):
            together.abort()
            raise ProviderUnavailable("it is down", timedelta(minutes=5))

    ids = enqueue(connection, 45)
    with pytest.raises(ProviderUnavailable, match="it is down"):
        QueueWorker(database_url, Shared(fail)).run()
    written = recorded(connection)
    assert set(written) <= set(ids)
    assert set(written.values()) == {1}
    assert states(connection) == {"completed": len(written), "pending": 45 - len(written)}
    assert set(counted_attempts(connection)) <= {0, 1}


def test_told_to_end_at_once_both_release_their_jobs(connection: Connection, database_url: str) -> None:
    together, stop = Barrier(2), StopSignal()

    def end(second: bool) -> None:
        together.wait(30)
        stop.set(at_once=True)

    class Patient(Shared):
        def work(self, connection: Connection, jobs: Sequence[Job]) -> Iterator[list[Outcome]]:
            yield [Outcome(jobs[0], "fine")]
            self._during(False)
            yield []
            raise AssertionError("it should have left")

    enqueue(connection, 45)
    assert QueueWorker(database_url, Patient(end), stop=stop).run().completed == 2
    assert states(connection) == {"completed": 2, "pending": 43}
    assert counted_attempts(connection).count(1) == 2
