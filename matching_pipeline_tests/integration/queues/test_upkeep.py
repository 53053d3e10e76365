"""What people and schedules do to the queue: retry, purge, snooze, ask."""

from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from matching_pipeline.db.connections import Connection, connect
from matching_pipeline.queues import client
from matching_pipeline.queues.client import Job, QueueState
from matching_pipeline_tests.fixtures.recording import MINUTE, QUEUE, SOURCE
from matching_pipeline_tests.integration.conftest import claim, claim_one, counted_attempts, enqueue, make_due, states

DAY = timedelta(days=1)


def fail_all(connection: Connection) -> list[Job]:
    jobs = claim(connection)
    for job in jobs:
        assert client.fail(connection, job, "broken", permanent=True)
    return jobs


def test_retry_gives_failed_work_fresh_attempts(connection: Connection) -> None:
    enqueue(connection, 3)
    failed = fail_all(connection)
    assert client.retry(connection, QUEUE) == 3
    assert counted_attempts(connection) == [0, 0, 0]
    assert {(job.id, job.attempt) for job in claim(connection)} == {(job.id, 2) for job in failed}


def test_retry_of_some_leaves_the_others_failed(connection: Connection) -> None:
    enqueue(connection, 3)
    first, *_ = fail_all(connection)
    assert client.retry(connection, QUEUE, [first.id]) == 1
    assert client.retry(connection, "another queue") == 0
    assert client.retry(connection, QUEUE, []) == 0
    assert states(connection) == {"pending": 1, "failed": 2}


def test_retry_wakes_the_queue(connection: Connection) -> None:
    enqueue(connection)
    fail_all(connection)
    client.listen(connection)
    client.retry(connection, QUEUE)
    assert client.wait_for_work(connection, QUEUE, 10) == QUEUE


def test_retry_of_work_that_is_pending_again_leaves_it_pending_once(connection: Connection) -> None:
    (entity,) = enqueue(connection)
    fail_all(connection)
    client.enqueue(connection, QUEUE, SOURCE, [entity])
    assert client.retry(connection, QUEUE) == 0
    assert states(connection) == {"pending": 1}


def test_retry_of_two_failures_of_one_entity_makes_them_one(connection: Connection) -> None:
    (entity,) = enqueue(connection)
    fail_all(connection)
    client.enqueue(connection, QUEUE, SOURCE, [entity])
    (newer,) = fail_all(connection)
    assert client.retry(connection, QUEUE) == 1
    assert claim_one(connection).id == newer.id
    assert states(connection) == {"processing": 1}


def test_purge_removes_what_completed_long_ago_in_batches(connection: Connection) -> None:
    enqueue(connection, 10)
    client.complete(connection, claim(connection, batch_size=9))
    connection.execute(
        "update matching_pipeline.jobs set completed_at = now() - interval '8 days' "
        "where id in (select id from matching_pipeline.jobs where status = 'completed' limit 7)"
    )
    assert connection.execute("select matching_pipeline.purge_completed_jobs(batch_size => 5)").fetchone() == (5,)
    assert client.purge(connection, 7 * DAY) == 2
    assert states(connection) == {"completed": 2, "pending": 1}


def test_purge_keeps_failures_for_people(connection: Connection) -> None:
    enqueue(connection)
    fail_all(connection)
    assert client.purge(connection, timedelta(0)) == 0
    assert states(connection) == {"failed": 1}


def test_a_snoozed_queue_is_not_claimed_before_the_delay_is_over(connection: Connection) -> None:
    enqueue(connection, 3)
    later, *_ = claim(connection, batch_size=1)
    client.enqueue(connection, "another queue", SOURCE, [str(uuid4())])
    client.snooze(connection, [later], 10 * MINUTE, "much later")
    assert client.snooze_queue(connection, QUEUE, MINUTE, "the provider is down") == 2
    assert claim(connection) == []
    state = client.queue_state(connection, QUEUE)
    assert state.seconds_to_next == pytest.approx(60, abs=5)
    assert client.queue_state(connection, "another queue").due


def test_snoozing_a_queue_waits_for_no_lock(connection: Connection, database_url: str) -> None:
    (edited, _) = enqueue(connection, 2)
    with connect(database_url) as app, app.transaction():
        client.enqueue(app, QUEUE, SOURCE, [edited])
        assert client.snooze_queue(connection, QUEUE, MINUTE, "the provider is down") == 1


def test_status_says_the_state_of_the_queue(connection: Connection) -> None:
    enqueue(connection, 9)
    completed, retried, snoozed, failed, _processing = claim(connection, batch_size=5)
    client.complete(connection, [completed])
    client.fail(connection, retried, "broken", permanent=False)
    client.snooze(connection, [snoozed], MINUTE, "later")
    client.fail(connection, failed, "broken", permanent=True)
    connection.execute(
        "update matching_pipeline.jobs set created_at = now() - interval '1 hour' where id = %s", (snoozed.id,)
    )

    status = client.status(connection, QUEUE)
    assert status.pop("oldest_pending_seconds") == pytest.approx(3600, abs=5)
    assert status == {
        "pending": 6,
        "retries": 1,
        "message": "6 jobs pending recording",
        "due": 4,
        "paused_until": None,
        "processing": 1,
        "failed": 1,
        "completed_per_minute": 0.1,
    }


def test_status_of_an_empty_queue(connection: Connection) -> None:
    status = client.status(connection, "image_ai")
    assert status["message"] == "0 jobs pending image analysis"
    assert status["oldest_pending_seconds"] is None
    assert not any(status[key] for key in ("pending", "retries", "due", "processing", "failed"))


def test_queue_state_of_nothing_of_due_and_of_leased_work(connection: Connection) -> None:
    assert client.queue_state(connection, QUEUE) == QueueState(due=False, seconds_to_next=None, waiting=0, workers=0)
    enqueue(connection)
    state = client.queue_state(connection, QUEUE)
    assert (state.due, state.waiting) == (True, 1)
    assert state.seconds_to_next is not None
    assert state.seconds_to_next < 0
    claim_one(connection)
    state = client.queue_state(connection, QUEUE)
    assert not state.due
    assert state.seconds_to_next == pytest.approx(60, abs=5)
    make_due(connection)
    assert client.queue_state(connection, QUEUE).due


def test_queue_state_counts_the_workers_that_are_alive(connection: Connection, database_url: str) -> None:
    with connect(database_url) as first, connect(database_url) as second, connect(database_url) as third:
        assert client.take_worker_slot(first, QUEUE, 2) == 1
        assert client.take_worker_slot(second, QUEUE, 2) == 2
        assert client.take_worker_slot(third, QUEUE, 2) is None
        assert client.take_worker_slot(third, "another queue", 2) == 1
        assert client.queue_state(connection, QUEUE).workers == 2
    with connect(database_url) as next_session:
        slot = None
        while slot is None:  # a session ends a moment after its client left
            slot = client.take_worker_slot(next_session, QUEUE, 1)
    assert client.queue_state(connection, QUEUE).workers <= 1


def test_waiting_hears_the_own_queue_and_the_call_to_stop_only(connection: Connection, database_url: str) -> None:
    client.listen(connection)
    with connect(database_url) as other:
        client.enqueue(other, "another queue", SOURCE, [str(uuid4())])
        assert client.wait_for_work(connection, QUEUE, 0.1) is None
        enqueue(other)
        assert client.wait_for_work(connection, QUEUE, 10) == QUEUE
        for _ in range(100):
            enqueue(other)
        client.stop_all(other)
    connection.execute("select 1")
    assert client.wait_for_work(connection, QUEUE, 0) == client.STOP_ALL


def test_ids_of_other_queues_are_not_retried(connection: Connection) -> None:
    enqueue(connection)
    ids: list[UUID] = [job.id for job in fail_all(connection)]
    assert client.retry(connection, "another queue", ids) == 0
    assert states(connection) == {"failed": 1}
