"""The jobs of a worker that died: suspects, the culprit, and the moment when another worker takes them."""

from collections.abc import Iterator
from uuid import UUID

import pytest

from matching_pipeline.db.connections import Connection, connect
from matching_pipeline.queues import client
from matching_pipeline_tests.fixtures.recording import MINUTE, QUEUE, SOURCE
from matching_pipeline_tests.integration.conftest import claim, claim_one, counted_attempts, enqueue, make_due, states

WORKER, ANOTHER_WORKER = 1, 2


@pytest.fixture
def worker(database_url: str) -> Iterator[Connection]:
    """A session of a worker."""
    with connect(database_url) as session:
        client.enter_as_claimer(session, WORKER)
        yield session


def die(worker: Connection, connection: Connection) -> None:
    connection.execute("select pg_terminate_backend(%s, 5000)", (worker.info.backend_pid,))


def lease_seconds(connection: Connection) -> list[int]:
    rows = connection.execute(
        "select round(extract(epoch from run_at - now()))::integer from matching_pipeline.jobs "
        "where status = 'processing' order by id"
    )
    return [seconds for (seconds,) in rows]


def deaths(connection: Connection) -> dict[UUID, int]:
    return dict(connection.execute("select id, deaths from matching_pipeline.jobs where deaths > 0").fetchall())


def kill_all_workers(connection: Connection) -> None:
    """As if their leases were over."""
    connection.execute(
        "update matching_pipeline.jobs set run_at = now() - interval '1 second' where status = 'processing'"
    )


def test_the_lease_of_a_worker_that_is_gone_is_cut_to_ten_seconds(worker: Connection, connection: Connection) -> None:
    enqueue(connection, 2)
    claim(worker)
    assert client.cut_leases_of_dead_workers(connection) == 0
    assert lease_seconds(connection) == [60, 60]
    die(worker, connection)
    assert client.cut_leases_of_dead_workers(connection) == 2
    assert lease_seconds(connection) == [10, 10]
    connection.execute("update matching_pipeline.jobs set run_at = run_at - interval '4 seconds'")
    assert client.cut_leases_of_dead_workers(connection) == 0
    assert lease_seconds(connection) == [6, 6]


def test_a_worker_whose_other_session_lives_is_not_gone(
    worker: Connection, connection: Connection, database_url: str
) -> None:
    enqueue(connection)
    claim(worker)
    with connect(database_url) as of_the_same_worker:
        client.enter_as_claimer(of_the_same_worker, WORKER)
        die(worker, connection)
        assert client.cut_leases_of_dead_workers(connection) == 0


def test_a_worker_that_reconnects_keeps_its_jobs(
    worker: Connection, connection: Connection, database_url: str
) -> None:
    enqueue(connection)
    job = claim_one(worker)
    die(worker, connection)
    assert client.cut_leases_of_dead_workers(connection) == 1
    with connect(database_url) as again:
        client.enter_as_claimer(again, WORKER)
        assert client.renew(again, [job], MINUTE) == {job.id}
        assert client.cut_leases_of_dead_workers(connection) == 0
        assert lease_seconds(connection) == [60]
        assert client.complete(again, [job]) == {job.id}


def test_a_claim_without_a_session_of_its_own_has_its_lease(connection: Connection, database_url: str) -> None:
    enqueue(connection)
    with connect(database_url) as pooled:
        claim(pooled)
    assert client.cut_leases_of_dead_workers(connection) == 0
    assert lease_seconds(connection) == [60]


def test_an_outside_role_may_ask_whether_a_worker_is_gone(worker: Connection, connection: Connection) -> None:
    enqueue(connection)
    claim(worker)
    role = f"outside_{connection.info.dbname}"
    connection.execute(f"create role {role}".encode())
    try:
        connection.execute(f"grant usage on schema matching_pipeline to {role}".encode())
        connection.execute(f"grant select, update on matching_pipeline.jobs to {role}".encode())
        connection.execute(f"grant execute on all functions in schema matching_pipeline to {role}".encode())
        connection.execute(f"create policy works on matching_pipeline.jobs to {role} using (true)".encode())
        connection.execute(f"set role {role}".encode())
        assert client.cut_leases_of_dead_workers(connection) == 0
        connection.execute("reset role")
        die(worker, connection)
        connection.execute(f"set role {role}".encode())
        assert client.cut_leases_of_dead_workers(connection) == 1
    finally:
        connection.execute("reset role")
        connection.execute(f"drop owned by {role}; drop role {role}".encode())


def test_suspects_are_halved_until_the_culprit_is_alone_and_others_have_their_turn(connection: Connection) -> None:
    culprit, *innocent = enqueue(connection, 20)
    sizes = []
    while not (dead := states(connection)["failed"]):
        kill_all_workers(connection)
        connection.execute("update matching_pipeline.jobs set run_at = now() where status = 'pending'")
        jobs = claim(connection)
        if not jobs:
            continue
        if culprit in {job.key for job in jobs}:
            sizes.append(len(jobs))
        else:
            client.complete(connection, jobs)
    assert dead == 1
    # halved, and the last five deaths were its own
    assert (sizes[0], sizes[-5:]) == (20, [1] * 5)
    assert len(sizes) <= 9
    ((key, reason),) = connection.execute(
        "select key, error_message from matching_pipeline.jobs where status = 'failed'"
    )
    assert (key, reason) == (culprit, "its worker died or lost its lease 5 times while it had no other job")
    assert states(connection)["completed"] == len(innocent)
    charged = connection.execute("select attempts - snoozes from matching_pipeline.jobs where status = 'failed'")
    assert charged.fetchone() == (0,)


def test_suspects_are_claimed_before_and_apart_from_others(connection: Connection) -> None:
    suspects = {*enqueue(connection, 4)}
    claim(connection)
    others = {*enqueue(connection, 3)}
    kill_all_workers(connection)
    claims = [{job.key for job in claim(connection)} for _ in range(4)]
    assert [len(keys) for keys in claims] == [2, 2, 3, 0]
    assert claims[0] | claims[1] == suspects
    assert claims[2] == others


def test_after_a_second_death_suspects_let_others_go_first(connection: Connection) -> None:
    suspects = {*enqueue(connection, 4)}
    claim(connection)
    others = {*enqueue(connection, 3)}
    kill_all_workers(connection)
    first_half = {job.key for job in claim(connection)}
    kill_all_workers(connection)
    claims = [{job.key for job in claim(connection)} for _ in range(2)]
    assert claims == [suspects - first_half, others]


def test_of_a_worker_of_several_queues_only_the_one_suspect_is_charged(
    worker: Connection, connection: Connection
) -> None:
    enqueue(connection)
    client.enqueue(connection, "another queue", SOURCE, ["1"])
    for _ in range(2):
        (job,) = claim(worker)
        assert len(client.claim(worker, "another queue", 100, MINUTE)) == 1
        kill_all_workers(connection)
        connection.execute("select matching_pipeline.release_lost_jobs()")
        # it counts for neither of two suspects
        assert deaths(connection) == {}
        connection.execute("update matching_pipeline.jobs set run_at = now()")
    (job,) = claim(worker)
    client.complete(worker, client.claim(worker, "another queue", 100, MINUTE))
    client.enqueue(connection, "another queue", SOURCE, ["2"])
    assert len(client.claim(worker, "another queue", 100, MINUTE)) == 1
    kill_all_workers(connection)
    connection.execute("select matching_pipeline.release_lost_jobs()")
    assert deaths(connection) == {job.id: 1}


def test_a_job_that_ends_otherwise_is_no_suspect_any_more(connection: Connection) -> None:
    enqueue(connection)
    claim_one(connection)
    make_due(connection)
    job = claim_one(connection)
    assert deaths(connection) == {job.id: 1}
    client.fail(connection, job, "broken", permanent=False)
    assert deaths(connection) == {}
    assert counted_attempts(connection) == [1]
    assert connection.execute("select batch_limit from matching_pipeline.jobs").fetchone() == (None,)


def test_an_edit_forgives_deaths(connection: Connection) -> None:
    (key,) = enqueue(connection)
    claim_one(connection)
    kill_all_workers(connection)
    connection.execute("select matching_pipeline.release_lost_jobs()")
    client.enqueue(connection, QUEUE, SOURCE, [key])
    assert deaths(connection) == {}


def test_of_equal_jobs_that_are_lost_one_stays(connection: Connection) -> None:
    (key,) = enqueue(connection)
    claim(connection)
    client.enqueue(connection, QUEUE, SOURCE, [key])
    claim(connection)
    kill_all_workers(connection)
    connection.execute("select matching_pipeline.release_lost_jobs()")
    assert states(connection) == {"pending": 1}
