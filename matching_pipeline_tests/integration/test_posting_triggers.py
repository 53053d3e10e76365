"""Triggers enqueue keys of changed postings and erase deleted ones, in the app's transaction. Workers do the rest."""

import time
from uuid import UUID, uuid4

import psycopg
import pytest

from matching_pipeline.db.connections import Connection, connect
from matching_pipeline.queues import client
from matching_pipeline_tests.fixtures.notices import payloads
from matching_pipeline_tests.fixtures.postings import JobBoard, LetterEmbedder, work_postings


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


def test_an_edit_that_leaves_the_text_as_it_is_asks_for_nothing(
    board: JobBoard, baker: UUID, database_url: str
) -> None:
    """A trigger evaluates no expression: the worker finds the text as it was."""
    board.run("update jobs set title = ' Baker' || chr(10)")
    assert board.queued() == {baker}
    embedder = LetterEmbedder()
    work_postings(database_url, embedder)
    assert (embedder.requests, board.status(baker)) == ([], ("completed", None))


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
def test_embedding_and_job_of_a_posting_that_becomes_inactive_are_deleted_by_a_worker(
    board: JobBoard, baker: UUID, database_url: str, value: str
) -> None:
    board.run("alter table jobs alter is_active drop not null")
    waiting = board.post("Cook")
    board.run(f"update jobs set is_active = {value}")
    assert board.queued() == {baker, waiting}
    embedder = LetterEmbedder()
    work_postings(database_url, embedder)
    assert (embedder.requests, board.embedded(), board.queue_rows()) == ([], set(), set())
    board.run("update jobs set is_active = true")
    assert board.queued() == {baker, waiting}


@pytest.mark.parametrize("statement", ["delete from jobs", "truncate jobs cascade"])
def test_embeddings_and_jobs_are_deleted_with_their_posting(
    board: JobBoard, baker: UUID, database_url: str, statement: str
) -> None:
    board.post("Cook")
    board.fail(board.post("Nurse"))
    with board.connection.transaction():
        board.run(statement)
        assert board.embedded() == set()
    work_postings(database_url)
    assert board.run("select key from matching_pipeline.jobs where kind = 'entity'") == []


def test_a_deleted_posting_that_is_not_mirrored_has_a_job(board: JobBoard) -> None:
    """A worker may have read its row, and mirror it before the app commits."""
    job = board.post("Cook")
    board.run("delete from jobs")
    assert board.queued() == {job}


def test_a_posting_with_a_new_key_is_another_posting(board: JobBoard, baker: UUID, database_url: str) -> None:
    waiting, one, two = board.post("Cook"), uuid4(), uuid4()
    board.run("update jobs set id = %s where id = %s", one, baker)
    board.run("update jobs set id = %s where id = %s", two, waiting)
    assert (board.embedded(), board.queued()) == (set(), {waiting, one, two})
    work_postings(database_url)
    assert board.embedded() == {one, two}


def test_postings_that_swap_their_keys_are_embedded_again(board: JobBoard, baker: UUID, database_url: str) -> None:
    cook = board.post("Cook")
    work_postings(database_url)
    board.run("alter table jobs drop constraint jobs_pkey, add constraint jobs_pkey primary key (id) deferrable")
    board.run("update jobs set id = case id when %s then %s else %s end", baker, cook, baker)
    assert board.queued() == {baker, cook}
    work_postings(database_url)
    hashes: dict[UUID, bool] = dict(
        board.connection.execute("select job_id, input_hash = sha256('Cook') from job_embeddings").fetchall()
    )
    assert hashes == {baker: True, cook: False}


def test_a_rolled_back_transaction_leaves_nothing(board: JobBoard, baker: UUID) -> None:
    with board.connection.transaction(force_rollback=True):
        board.post()
        board.run("update jobs set is_active = false")
    assert (board.embedded(), board.queue_rows()) == ({baker}, set())


def test_a_role_with_rights_on_jobs_only_can_do_its_work(board: JobBoard, baker: UUID, database_url: str) -> None:
    role = f"app_{uuid4().hex}"
    board.run(f"create role {role}")
    board.run(f"grant all on jobs to {role}")
    board.run(f"set role {role}")
    new = board.post("Cook")
    board.run("update jobs set title = 'Nurse' where id = %s", baker)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        board.run("select * from matching_pipeline.jobs")
    board.run("reset role")
    assert board.queued() == {baker, new}
    board.run(f"set role {role}")
    board.run("update jobs set is_active = false where id = %s", baker)
    board.run("delete from jobs where id = %s", new)
    board.run("reset role")
    work_postings(database_url)
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
    failed, waiting, lost = (board.post(title) for title in ("a", "b", "c"))
    board.post("e", is_active=False)
    board.fail(failed)
    board.run("update jobs set title = 'Cook' where id = %s", baker)
    for job in (lost, baker):
        board.mirror(job)
    board.run("delete from matching_pipeline.jobs where key = any (%s)", [str(lost), str(baker)])
    assert board.run("select matching_pipeline.enqueue_missing()") == [2]
    assert board.queued() == {waiting, lost, baker}
    assert board.run("select matching_pipeline.enqueue_missing()") == [0]


def test_when_another_model_is_active_everything_is_missing(board: JobBoard, baker: UUID) -> None:
    board.run("update matching_pipeline.embedding_models set status = 'retired'")
    assert board.run("select matching_pipeline.enqueue_missing()") == [1]
    assert board.queued() == {baker}


SMALL_TABLES = {"embedding_models", "matchers", "publications", "queues", "sources"}


def update_costs(connection: Connection, statement: str) -> dict[str, int]:
    """Sequential scans by table, of the statement and its triggers, after Postgres has settled on plans."""
    with connection.transaction():
        for _ in range(10):
            connection.execute(statement.encode())
        return dict(
            connection.execute("select relname, seq_scan from pg_stat_xact_user_tables where seq_scan > 0").fetchall()
        )


def test_no_statement_of_the_apps_walks_a_table(board: JobBoard, database_url: str) -> None:
    board.run(
        "insert into jobs (id, title) select lpad(to_hex(n), 32, '0')::uuid, n from generate_series(1, 5000) as n"
    )
    work_postings(database_url)
    board.run(
        "vacuum analyze jobs, matching_pipeline.jobs, matching_pipeline.entities, matching_pipeline.items, "
        "matching_pipeline.embeddings"
    )
    for statement in (
        "update jobs set title = title || 'x' where id = '00000000-0000-0000-0000-000000000001'",
        "update jobs set is_active = not is_active where id = '00000000-0000-0000-0000-000000000001'",
        "insert into jobs (title) values ('Cook')",
        "delete from jobs where id = (select id from jobs order by id limit 1)",
    ):
        assert update_costs(board.connection, statement).keys() <= SMALL_TABLES, statement
