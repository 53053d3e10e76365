"""A paused queue: no worker claims its jobs, and every other queue goes on."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from matching_pipeline.db.connections import Connection, connect
from matching_pipeline.queues import client
from matching_pipeline.queues.client import Job
from matching_pipeline.queues.handler import Outcome
from matching_pipeline.queues.worker import QueueWorker
from matching_pipeline_tests.fixtures.recording import MINUTE, QUEUE, RecordingHandler
from matching_pipeline_tests.integration.conftest import claim, enqueue, recorded, states, until


@pytest.fixture(autouse=True)
def declared_queue(connection: Connection) -> None:
    connection.execute("insert into matching_pipeline.queues (name, work) values (%s, 'text')", (QUEUE,))


def end_pause(connection: Connection) -> None:
    connection.execute("update matching_pipeline.pauses set pause_end = now()")


def test_a_paused_queue_is_not_claimed_until_it_is_resumed(connection: Connection) -> None:
    enqueue(connection, 2)
    client.enqueue(connection, "image_ai", "product", ["1"])
    client.pause(connection, QUEUE, "anna")
    assert claim(connection) == []
    assert len(client.claim(connection, "image_ai", 1, MINUTE)) == 1
    assert client.resume(connection, QUEUE)
    assert len(claim(connection)) == 2
    assert not client.resume(connection, QUEUE)


def test_a_pause_ends_by_itself(connection: Connection) -> None:
    enqueue(connection)
    client.pause(connection, QUEUE, "anna", "2999-01-01")
    state = client.queue_state(connection, QUEUE)
    assert (state.due, state.paused, state.waiting) == (False, True, 1)
    assert state.seconds_to_next is not None
    assert state.seconds_to_next > 3600
    end_pause(connection)
    assert client.queue_pause(connection, QUEUE) is None
    assert client.queue_state(connection, QUEUE).due
    assert len(claim(connection)) == 1


def test_who_paused_and_until_when_is_said(connection: Connection) -> None:
    assert client.status(connection, QUEUE)["paused_until"] is None
    client.pause(connection, QUEUE, "anna")
    assert str(client.queue_pause(connection, QUEUE)) == "paused by anna until it is resumed"
    assert client.status(connection, QUEUE)["paused_until"] == "infinity"
    client.pause(connection, QUEUE, "bert", "2999-01-01 07:00")
    assert str(client.queue_pause(connection, QUEUE)) == "paused by bert until 2999-01-01 07:00:00+00"


@pytest.mark.parametrize(
    ("queue", "pause_end", "reason"),
    [
        ("recordings", "infinity", "there is no queue recordings, only"),
        (QUEUE, "2020-01-01", "a pause until 2020-01-01 00:00:00\\+00 is over already"),
        (QUEUE, "soonish", "invalid input syntax"),
    ],
)
def test_a_pause_of_no_queue_or_in_the_past_is_refused(
    connection: Connection, queue: str, pause_end: str, reason: str
) -> None:
    with pytest.raises(psycopg.DataError, match=reason):
        client.pause(connection, queue, "anna", pause_end)


def test_the_queue_of_a_shadow_model_is_paused_by_itself(connection: Connection) -> None:
    connection.execute("select matching_pipeline.pause_queue('image_ai_shadow')")
    client.enqueue(connection, "image_ai", "product", ["1"])
    client.enqueue(connection, "image_ai_shadow", "product", ["1"])
    assert client.queue_state(connection, "image_ai").due
    assert not client.queue_state(connection, "image_ai_shadow").due


@pytest.mark.usefixtures("records")
def test_a_batch_under_way_is_finished_and_the_next_waits(connection: Connection, database_url: str) -> None:
    class Pausing(RecordingHandler):
        batch_size = 2

        def work(self, session: Connection, jobs: Sequence[Job]) -> Iterator[list[Outcome]]:
            yield [Outcome(jobs[0], "fine")]
            client.pause(connection, QUEUE, "anna")
            yield [Outcome(jobs[1], "fine")]

    enqueue(connection, 5)
    summary = QueueWorker(database_url, Pausing()).run()
    assert summary.stopped_because == "the queue is paused"
    assert states(connection) == {"completed": 2, "pending": 3}


@pytest.mark.usefixtures("records")
def test_a_waiting_worker_goes_on_as_soon_as_the_queue_is_resumed(connection: Connection, database_url: str) -> None:
    client.pause(connection, QUEUE, "anna")
    enqueue(connection, 3)
    with ThreadPoolExecutor() as pool:
        worker = pool.submit(QueueWorker(database_url, RecordingHandler(), serve=True).run)
        until(connection, f"(matching_pipeline.queue_state('{QUEUE}')).workers = 1")
        with connect(database_url) as person:
            client.resume(person, QUEUE)
        until(connection, "(select count(*) from recorded) = 3")
        client.stop_all(connection)
        worker.result(timeout=30)
    assert sum(recorded(connection).values()) == 3
