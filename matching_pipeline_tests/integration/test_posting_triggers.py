"""Triggers queue jobs for changed postings, or delete embeddings and jobs, in the app's own transaction."""

import time
from datetime import timedelta
from uuid import UUID, uuid4

import psycopg
import pytest

from matching_pipeline.db.connections import Connection, connect
from matching_pipeline.queues import client
from matching_pipeline_tests.fixtures.notices import payloads
from matching_pipeline_tests.fixtures.postings import JobBoard, work_postings


@pytest.fixture
def board(connection: Connection) -> JobBoard:
    return JobBoard(connection)


@pytest.fixture
def baker(board: JobBoard, database_url: str) -> UUID:
    """An embedded posting. The queue is empty."""
    job = board.post("Baker", company="Loaf", description="Bread")
    work_postings(database_url)
    board.settle()
    return job


@pytest.mark.parametrize("is_active", [False, None])
def test_an_inactive_posting_is_not_queued_until_it_is_active(board: JobBoard, is_active: bool | None) -> None:
    board.run("alter table jobs alter is_active drop not null")
    job = board.post(is_active=is_active)
    board.run("update jobs set title = 'Cook'")
    assert board.queued() == set()
    board.run("update jobs set is_active = true")
    assert board.queued() == {job}


@pytest.mark.parametrize(
    "statement",
    [
        "update jobs set views = 1",
        "update jobs set title = title, company = company, description = description, is_active = true, id = id",
        "update jobs set title = ' Baker' || chr(10)",
        "update jobs set title = 'Nurse' where false",
    ],
)
def test_an_update_that_changes_no_text_queues_nothing(board: JobBoard, baker: UUID, statement: str) -> None:
    board.run("alter table jobs add views integer")
    board.run(statement)
    assert board.queue_rows() == set()
    assert board.embedded() == {baker}


@pytest.mark.parametrize("column", ["title", "company", "description"])
@pytest.mark.parametrize("value", ["new", None])
def test_an_edit_of_the_text_queues_the_posting_and_keeps_its_embedding_until_then(
    board: JobBoard, baker: UUID, column: str, value: str | None
) -> None:
    board.run(f"update jobs set {column} = %s", value)
    assert board.queued() == {baker}
    assert board.embedded() == {baker}


def test_a_text_that_is_embedded_already_is_not_queued_unless_a_worker_has_claimed_another(
    board: JobBoard, baker: UUID
) -> None:
    board.run("update jobs set title = 'Nurse'")
    board.settle()  # as if a person had deleted the job
    board.run("update jobs set title = 'Baker'")
    assert board.queue_rows() == set()
    board.run("update jobs set title = 'Nurse'")
    (_,) = client.claim(board.connection, "job_embeddings", 1, timedelta(minutes=1))
    board.run("update jobs set title = 'Baker'")
    assert board.queued() == {baker}


def test_an_upsert_queues_what_is_new_and_what_it_changed(board: JobBoard, database_url: str) -> None:
    same, edited, new = board.post("same"), board.post("old"), uuid4()
    work_postings(database_url)
    board.run(
        """insert into jobs (id, title, is_active) values (%s, 'same', true), (%s, 'edited', true), (%s, 'new', true)
        on conflict (id) do update set title = excluded.title""",
        *(same, edited, new),
    )
    assert board.queued() == {edited, new}


@pytest.mark.parametrize("value", ["false", "null"])
def test_embedding_and_job_of_a_posting_that_becomes_inactive_are_deleted_in_the_same_transaction(
    board: JobBoard, baker: UUID, value: str
) -> None:
    board.run("alter table jobs alter is_active drop not null")
    waiting = board.post("Cook")
    with board.connection.transaction():
        board.run(f"update jobs set is_active = {value}")
        assert (board.embedded(), board.queue_rows()) == (set(), set())
    board.run("update jobs set is_active = true")
    assert board.queued() == {baker, waiting}


@pytest.mark.parametrize("statement", ["delete from jobs", "truncate jobs cascade"])
def test_embeddings_and_jobs_are_deleted_with_their_posting(board: JobBoard, baker: UUID, statement: str) -> None:
    board.post("Cook")
    board.fail(board.post("Nurse"))
    with board.connection.transaction():
        board.run(statement)
        assert (board.embedded(), board.queue_rows()) == (set(), set())


def test_a_posting_with_a_new_key_keeps_its_embedding_and_its_work_follows(board: JobBoard, baker: UUID) -> None:
    waiting, one, two = board.post("Cook"), uuid4(), uuid4()
    board.run("update jobs set id = %s where id = %s", one, baker)
    board.run("update jobs set id = %s where id = %s", two, waiting)
    assert board.embedded() == {one}
    assert board.queue_rows() == {("job_embeddings", "posting", two)}


def test_a_new_key_with_a_new_text_queues_the_posting(board: JobBoard, baker: UUID) -> None:
    new = uuid4()
    board.run("update jobs set id = %s, title = 'Nurse'", new)
    assert board.embedded() == {new}
    assert board.queued() == {new}


def test_a_rolled_back_transaction_leaves_nothing(board: JobBoard, baker: UUID) -> None:
    with board.connection.transaction(force_rollback=True):
        board.post()
        board.run("update jobs set is_active = false")
    assert (board.embedded(), board.queue_rows()) == ({baker}, set())


def test_a_role_with_rights_on_jobs_only_can_do_its_work(board: JobBoard, baker: UUID) -> None:
    role = f"app_{uuid4().hex}"
    board.run(f"create role {role}")
    board.run(f"grant all on jobs to {role}")
    board.run(f"set role {role}")
    new = board.post("Cook")
    board.run("update jobs set title = 'Nurse' where id = %s", baker)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        board.run("select * from embedding_queue")
    board.run("reset role")
    assert board.queued() == {baker, new}
    board.run(f"set role {role}")
    board.run("update jobs set is_active = false where id = %s", baker)
    board.run("delete from jobs where id = %s", new)
    board.run("reset role")
    assert (board.embedded(), board.queue_rows()) == (set(), set())


def test_ten_thousand_postings_in_one_statement_are_queued_at_once_with_one_notification(
    board: JobBoard, database_url: str
) -> None:
    with connect(database_url) as listener:
        client.listen(listener)
        started = time.monotonic()
        board.run("insert into jobs (title) select 'Baker ' || number from generate_series(1, 10000) as number")
        board.run("update jobs set description = 'Bread'")
        assert time.monotonic() - started < 10
        assert payloads(listener) == ["job_embeddings"] * 2
    assert len(board.queue_rows()) == 10_000


def test_missing_is_what_has_no_current_embedding_and_neither_waits_nor_failed(board: JobBoard, baker: UUID) -> None:
    failed, waiting, lost, outdated = (board.post(title) for title in ("a", "b", "c", "d"))
    board.post("e", is_active=False)
    board.fail(failed)
    board.run("delete from job_queue where entity_id in (%s, %s)", lost, outdated)
    board.run(
        "insert into job_embeddings select %s, model, dimensions, embedding, input_hash from job_embeddings", outdated
    )
    assert board.run("select enqueue_missing()") == [2]
    assert board.queued() == {waiting, lost, outdated}
    assert board.run("select enqueue_missing()") == [0]


def test_when_another_model_is_active_everything_is_missing(board: JobBoard, baker: UUID) -> None:
    board.run("update embedding_models set status = 'retired'")
    assert board.run("select enqueue_missing()") == [1]
    assert board.queued() == {baker}


def update_costs(connection: Connection, statement: str) -> dict[str, int]:
    """Sequential scans by table, of the statement and its triggers, after Postgres has settled on plans."""
    with connection.transaction():
        for _ in range(10):
            connection.execute(statement.encode())
        return dict(
            connection.execute("select relname, seq_scan from pg_stat_xact_user_tables where seq_scan > 0").fetchall()
        )


@pytest.mark.parametrize(
    "statement",
    [
        "update jobs set title = title || 'x' where id = '00000000-0000-0000-0000-000000000001'",
        "update jobs set is_active = not is_active where id = '00000000-0000-0000-0000-000000000001'",
        "insert into jobs (title) values ('Cook')",
        "delete from jobs where id = (select id from jobs order by id limit 1)",
    ],
)
def test_a_statement_of_the_apps_walks_no_table(board: JobBoard, database_url: str, statement: str) -> None:
    board.run(
        "insert into jobs (id, title) select lpad(to_hex(n), 32, '0')::uuid, n from generate_series(1, 5000) as n"
    )
    work_postings(database_url)
    board.run("vacuum analyze jobs, job_queue, job_embeddings")
    assert update_costs(board.connection, statement).keys() <= {"embedding_models"}
