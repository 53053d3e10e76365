"""The queue's verbs, one behaviour a test."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import IsolationLevel

from matching_pipeline.db.connections import Connection, connect
from matching_pipeline.queues import client
from matching_pipeline.queues.client import Job
from matching_pipeline_tests.fixtures.notices import payloads
from matching_pipeline_tests.fixtures.recording import MINUTE, QUEUE, SOURCE
from matching_pipeline_tests.integration.conftest import claim, claim_one, counted_attempts, enqueue, make_due, states


@pytest.fixture
def other(database_url: str) -> Iterator[Connection]:
    """A second session."""
    with connect(database_url) as connection:
        yield connection


def fail(connection: Connection, job: Job, *, permanent: bool = False) -> bool:
    return client.fail(connection, job, "broken", permanent=permanent)


def snooze(connection: Connection, job: Job, delay: timedelta = MINUTE) -> set[UUID]:
    return client.snooze(connection, [job], delay, "later")


def due_in(connection: Connection) -> float:
    """Seconds until the only pending row is due."""
    ((seconds,),) = connection.execute(
        "select extract(epoch from run_at - now())::float from matching_pipeline.jobs where status = 'pending'"
    )
    return float(seconds)


def fail_for_good(connection: Connection) -> Job:
    job = claim_one(connection)
    assert fail(connection, job, permanent=True)
    return job


def test_enqueue_adds_no_second_pending_job(connection: Connection) -> None:
    ids = enqueue(connection, 2)
    client.enqueue(connection, QUEUE, SOURCE, ids)
    client.enqueue(connection, QUEUE, "another source", ids[:1])
    client.enqueue(connection, "another queue", SOURCE, ids[:1])
    client.enqueue(connection, QUEUE, SOURCE, ids[:1], "item")
    assert states(connection) == {"pending": 5}


def test_enqueue_during_processing_adds_a_job(connection: Connection) -> None:
    (entity,) = enqueue(connection)
    claim_one(connection)
    client.enqueue(connection, QUEUE, SOURCE, [entity])
    assert states(connection) == {"pending": 1, "processing": 1}


def test_enqueue_of_nothing_and_of_duplicates(connection: Connection) -> None:
    entity = str(uuid4())
    assert client.enqueue(connection, QUEUE, SOURCE, []) == 0
    assert client.enqueue(connection, QUEUE, SOURCE, [entity, entity]) == 1
    for nothing in ("null", "array[null]::text[]"):
        call = f"select matching_pipeline.enqueue_jobs('recording', 'thing', 'entity', {nothing})"
        assert connection.execute(call.encode()).fetchone() == (0,)
    assert states(connection) == {"pending": 1}


def test_an_edit_that_is_not_committed_yet_keeps_its_pending_work_from_being_claimed(
    connection: Connection, other: Connection
) -> None:
    (entity,) = enqueue(connection)
    with other.transaction():
        client.enqueue(other, QUEUE, SOURCE, [entity])
        assert claim(connection) == []
    assert claim_one(connection).key == entity


def test_an_edit_beside_a_claim_adds_a_job_and_does_not_wait(connection: Connection, other: Connection) -> None:
    (entity,) = enqueue(connection)
    with connection.transaction():
        claim_one(connection)
        assert client.enqueue(other, QUEUE, SOURCE, [entity]) == 1
    assert states(connection) == {"pending": 1, "processing": 1}


@pytest.mark.parametrize("isolation", [IsolationLevel.READ_COMMITTED, IsolationLevel.REPEATABLE_READ])
def test_app_transactions_that_enqueue_the_same_work_never_wait_for_each_other(
    connection: Connection, other: Connection, isolation: IsolationLevel
) -> None:
    first, second = enqueue(connection, 2)
    for session in (connection, other):
        session.isolation_level = isolation
        session.execute("set lock_timeout = 1")
    with connection.transaction(), other.transaction():
        for session, order in ((connection, [first, second]), (other, [second, first])):
            for entity in order:
                assert client.enqueue(session, QUEUE, SOURCE, [entity]) == 1


def test_an_app_transaction_that_repeats_its_reads_is_not_aborted_by_a_claim(
    connection: Connection, other: Connection
) -> None:
    (entity,) = enqueue(connection)
    other.isolation_level = IsolationLevel.REPEATABLE_READ
    with other.transaction():
        other.execute("select 1")
        claim_one(connection)
        assert client.enqueue(other, QUEUE, SOURCE, [entity]) == 1
    assert states(connection) == {"pending": 1, "processing": 1}


def test_a_transaction_notifies_once_with_the_queues_name_only(connection: Connection, other: Connection) -> None:
    client.listen(connection)
    with other.transaction():
        enqueue(other, 100)
        enqueue(other, 100)
    assert payloads(connection) == [QUEUE]


def test_enqueue_makes_work_in_back_off_due_with_fresh_attempts(connection: Connection) -> None:
    (entity,) = enqueue(connection)
    fail(connection, claim_one(connection))
    assert claim(connection) == []
    client.enqueue(connection, QUEUE, SOURCE, [entity])
    assert counted_attempts(connection) == [0]
    assert claim_one(connection).attempt == 2


def test_claims_are_oldest_first_due_and_of_the_queue(connection: Connection) -> None:
    first, second, third = (enqueue(connection)[0] for _ in range(3))
    client.enqueue(connection, "another queue", SOURCE, [str(uuid4())])
    connection.execute(
        "update matching_pipeline.jobs set run_at = now() + interval '1 hour' where key = %s", (second,)
    )
    assert [job.key for job in claim(connection, batch_size=1)] == [first]
    assert [job.key for job in claim(connection)] == [third]


def test_claimers_at_once_get_each_row_once(connection: Connection, database_url: str) -> None:
    ids = enqueue(connection, 400)

    def claim_all(_: int) -> list[str]:
        with connect(database_url) as session:
            return [job.key for _ in range(40) for job in claim(session, batch_size=7)]

    with ThreadPoolExecutor(4) as pool:
        claimed = [key for keys in pool.map(claim_all, range(4)) for key in keys]
    claimed += [job.key for job in claim(connection, batch_size=400)]
    assert sorted(claimed) == sorted(ids)


def test_a_renewed_lease_lasts(connection: Connection) -> None:
    enqueue(connection)
    job = claim_one(connection)
    make_due(connection)
    assert client.renew(connection, [job], MINUTE) == {job.id}
    assert claim(connection) == []


def test_renewing_waits_for_no_lock(connection: Connection, other: Connection) -> None:
    enqueue(connection, 2)
    gone, stays = claim(connection)
    with other.transaction():
        other.execute("delete from matching_pipeline.jobs where id = %s", (gone.id,))
        assert client.renew(connection, [gone, stays], MINUTE) == {stays.id}


def test_a_lease_that_was_taken_over_is_never_accepted(connection: Connection) -> None:
    enqueue(connection)
    stale = claim_one(connection)
    make_due(connection)
    current = claim_one(connection)
    assert not client.complete(connection, [stale])
    assert not fail(connection, stale)
    assert not fail(connection, stale, permanent=True)
    assert not snooze(connection, stale)
    assert not client.renew(connection, [stale], MINUTE)
    assert client.complete(connection, [current]) == {current.id}
    assert not client.complete(connection, [current])


def test_failures_back_off_and_the_third_is_final(connection: Connection) -> None:
    enqueue(connection)
    for minutes in (1, 2):
        assert fail(connection, claim_one(connection))
        assert due_in(connection) == pytest.approx(60 * minutes, abs=5)
        make_due(connection)
    assert fail(connection, claim_one(connection))
    assert states(connection) == {"failed": 1}


def test_a_permanent_failure_is_final_at_once(connection: Connection) -> None:
    enqueue(connection)
    fail_for_good(connection)
    assert connection.execute("select status, error_message from matching_pipeline.jobs").fetchall() == [
        ("failed", "broken")
    ]


def test_a_snooze_counts_no_attempt(connection: Connection) -> None:
    enqueue(connection)
    for _ in range(4):
        assert snooze(connection, claim_one(connection))
        assert due_in(connection) == pytest.approx(60, abs=5)
        make_due(connection)
    for expected in ("pending", "pending", "failed"):
        assert fail(connection, claim_one(connection))
        assert states(connection) == {expected: 1}
        make_due(connection)


@pytest.mark.parametrize("release", [fail, snooze])
def test_a_released_job_is_deleted_in_favour_of_a_newer_edit(connection: Connection, release: object) -> None:
    (entity,) = enqueue(connection)
    job = claim_one(connection)
    client.enqueue(connection, QUEUE, SOURCE, [entity])
    assert callable(release)
    assert release(connection, job)
    assert states(connection) == {"pending": 1}
    newer = claim_one(connection)
    assert newer.id != job.id
    assert newer.attempt == 1


def test_a_released_job_does_not_wait_for_an_edit_that_has_not_committed(
    connection: Connection, other: Connection
) -> None:
    (entity,) = enqueue(connection)
    job = claim_one(connection)
    with other.transaction():
        client.enqueue(other, QUEUE, SOURCE, [entity])
        assert fail(connection, job)
    assert states(connection) == {"pending": 2}


def test_completing_deletes_the_failures_that_started_earlier(connection: Connection) -> None:
    (entity,) = enqueue(connection)
    fail_for_good(connection)
    client.enqueue(connection, QUEUE, SOURCE, [entity])
    client.complete(connection, [claim_one(connection)])
    assert states(connection) == {"completed": 1}


def test_completing_late_does_not_delete_the_failure_of_a_newer_edit(connection: Connection) -> None:
    (entity,) = enqueue(connection)
    slow = claim_one(connection)
    client.enqueue(connection, QUEUE, SOURCE, [entity])
    fail_for_good(connection)
    client.complete(connection, [slow])
    assert states(connection) == {"completed": 1, "failed": 1}


@pytest.mark.parametrize(
    "illegal",
    [
        "status = 'waiting'",
        "status = 'processing', started_at = null, attempts = 1",
        "status = 'processing', started_at = now(), attempts = 1, snoozes = 1",
        "status = 'completed', completed_at = null",
        "status = 'pending', completed_at = now()",
        "status = 'failed', completed_at = now(), error_message = null",
        "snoozes = 1, attempts = 0",
        "snoozes = -1",
        "max_attempts = 0",
    ],
)
def test_an_illegal_state_is_refused(connection: Connection, illegal: str) -> None:
    enqueue(connection)
    with pytest.raises(psycopg.errors.CheckViolation):
        connection.execute(f"update matching_pipeline.jobs set {illegal}".encode())
