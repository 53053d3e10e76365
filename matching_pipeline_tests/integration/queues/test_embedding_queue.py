"""`embedding_queue`: what an app and an operator may do with it."""

from collections.abc import Sequence
from uuid import UUID, uuid4

import psycopg
import pytest

from matching_pipeline.db.connections import Connection, connect
from matching_pipeline.queues import client
from matching_pipeline_tests.fixtures.notices import payloads
from matching_pipeline_tests.fixtures.postings import JobBoard, LetterEmbedder, work_postings

CLEAR = "update embedding_queue set processed_at = null, error_message = null"


@pytest.fixture
def board(connection: Connection) -> JobBoard:
    return JobBoard(connection)


@pytest.fixture
def job(board: JobBoard) -> UUID:
    """A posting without a job."""
    job = board.post()
    board.settle()
    return job


def test_inserting_a_row_enqueues_one_job_and_wakes_a_worker(board: JobBoard, job: UUID, database_url: str) -> None:
    with connect(database_url) as listener:
        client.listen(listener)
        (first,) = board.run("insert into embedding_queue (job_id) values (%s) returning id", job)
        assert payloads(listener) == ["job_embeddings"]
    (again,) = board.run("insert into embedding_queue (job_id) values (%s) returning id", job)
    assert first == again
    assert board.run("select row(job_id, status, retry_count, processed_at)::text from embedding_queue") == [
        f"({job},pending,0,)"
    ]
    work_postings(database_url)
    assert board.embedded() == {job}


def test_work_for_a_posting_that_is_not_active_ends_without_a_result(board: JobBoard, database_url: str) -> None:
    embedder = LetterEmbedder()
    board.run("insert into embedding_queue (job_id) values (%s)", board.post(is_active=False))
    assert work_postings(database_url, embedder).completed == 1
    assert (embedder.requests, board.embedded()) == ([], set())


def test_only_rows_of_its_queue_are_in_it(board: JobBoard, job: UUID) -> None:
    board.product_image(board.product())
    assert board.run("select * from embedding_queue") == []


def test_clearing_retries_what_failed_with_fresh_attempts(board: JobBoard, job: UUID, database_url: str) -> None:
    board.run("insert into embedding_queue (job_id) values (%s)", job)
    board.fail(job)
    (id,) = board.run("select id from embedding_queue")
    assert board.run(f"{CLEAR}, status = 'pending', retry_count = 0 where status = 'failed' returning id") == [id]
    assert board.run("select (status, retry_count)::text from embedding_queue") == ["(pending,0)"]
    work_postings(database_url)
    assert board.embedded() == {job}


def test_clearing_makes_what_waits_for_its_next_try_due(board: JobBoard, job: UUID, database_url: str) -> None:
    board.run("insert into embedding_queue (job_id) values (%s)", job)
    board.run("update job_queue set attempts = 1, error_message = 'no luck', run_at = now() + interval '1 hour'")
    assert board.run("select retry_count from embedding_queue") == [1]
    board.run(f"{CLEAR} where error_message is not null")
    assert work_postings(database_url).completed == 1


def test_clearing_enqueues_completed_jobs_again_and_leaves_those_in_processing(
    board: JobBoard, job: UUID, database_url: str
) -> None:
    board.run("insert into embedding_queue (job_id) values (%s)", job)

    def clear(texts: Sequence[str]) -> None:
        board.run(CLEAR)

    embedder = LetterEmbedder(clear)
    assert work_postings(database_url, embedder).completed == 1
    board.run(CLEAR)
    assert work_postings(database_url, embedder).completed == 1
    # equal texts are never asked twice
    assert embedder.requests == [["Baker"]]


@pytest.mark.parametrize("count", [1, 2])
def test_clearing_several_rows_of_a_posting_enqueues_one_job(board: JobBoard, job: UUID, count: int) -> None:
    for _ in range(3):
        board.run(
            "insert into job_queue (queue, entity_kind, entity_id, status, started_at, completed_at, error_message) "
            "values ('job_embeddings', 'posting', %s, 'failed', now(), now(), 'broken')",
            job,
        )
    for _ in range(count):
        board.run(CLEAR)
    assert board.run("select status from embedding_queue") == ["pending"]


def test_an_update_that_changes_nothing_does_nothing(board: JobBoard, job: UUID) -> None:
    board.run("insert into embedding_queue (job_id) values (%s)", job)
    board.fail(job)
    board.run("update embedding_queue set error_message = error_message, status = 'failed'")
    assert board.run("select status from embedding_queue") == ["failed"]


@pytest.mark.parametrize(
    ("statement", "error"),
    [
        ("update embedding_queue set processed_at = null", psycopg.errors.FeatureNotSupported),
        ("update embedding_queue set status = 'pending'", psycopg.errors.FeatureNotSupported),
        (f"{CLEAR}, job_id = gen_random_uuid()", psycopg.errors.FeatureNotSupported),
        (f"{CLEAR}, job_id = null", psycopg.errors.FeatureNotSupported),
        ("insert into embedding_queue (job_id) values (null)", psycopg.errors.ForeignKeyViolation),
        ("insert into embedding_queue (job_id) values (gen_random_uuid())", psycopg.errors.ForeignKeyViolation),
    ],
)
def test_what_it_cannot_do_it_refuses(board: JobBoard, job: UUID, statement: str, error: type[psycopg.Error]) -> None:
    board.run("insert into embedding_queue (job_id) values (%s)", job)
    board.fail(job)
    with pytest.raises(error, match=r"embedding_queue: (there is no posting|to try a job again)"):
        board.run(statement)


def test_deleting_a_row_takes_its_work_back(board: JobBoard, job: UUID) -> None:
    board.run("insert into embedding_queue (job_id) values (%s)", job)
    assert board.run("delete from embedding_queue where job_id = %s returning job_id", job) == [job]
    assert board.queue_rows() == set()


def test_an_app_that_may_insert_into_it_needs_no_other_right(board: JobBoard, job: UUID) -> None:
    board.run("create role shop")
    try:
        board.run("grant insert on embedding_queue to shop")
        board.run("set role shop")
        board.run("insert into embedding_queue (job_id) values (%s)", job)
        board.run("reset role")
        assert board.queued() == {job}
    finally:
        board.run("reset role")
        board.run("drop owned by shop")
        board.run("drop role shop")


def test_it_shows_nothing_to_roles_that_see_nothing_of_the_queue(board: JobBoard, job: UUID) -> None:
    board.run("insert into embedding_queue (job_id) values (%s)", job)
    role = f"visitor_{uuid4().hex}"
    board.run(f"create role {role}")
    board.run(f"grant select on embedding_queue to {role}")
    board.run(f"set role {role}")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        board.run("select * from embedding_queue")
    board.run("reset role")
