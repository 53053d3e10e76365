"""The field's "Auto-Embedding Generation Setup", line by line; each test is named after the line that it holds."""

from uuid import UUID

import pytest

from matching_pipeline.db.connections import Connection
from matching_pipeline.definitions import defs
from matching_pipeline.errors import TransientFailure
from matching_pipeline.handlers.registry import process_due
from matching_pipeline.queues import client
from matching_pipeline.settings import Settings
from matching_pipeline_tests.conftest import EXAMPLES
from matching_pipeline_tests.fixtures.postings import JobBoard, LetterEmbedder, work_postings

UPSERT = """insert into jobs (id, title, is_active) values (%s, %s, true)
    on conflict (id) do update set title = excluded.title"""


@pytest.fixture
def board(connection: Connection) -> JobBoard:
    return JobBoard(connection)


def in_queue(board: JobBoard, job: UUID) -> list[tuple[str, int, str | None, bool]]:
    """Status, retry count, error and whether it was processed, of the job's rows in the queue."""
    return board.connection.execute(
        """select status, retry_count, error_message, processed_at is not null from embedding_queue
        where job_id = %s order by created_at""",
        (job,),
    ).fetchall()


def failing() -> LetterEmbedder:
    return LetterEmbedder(answer=lambda text: TransientFailure("no luck"))


def wait_out_the_back_off(board: JobBoard) -> None:
    board.run("update job_queue set run_at = now() where status = 'pending'")


def fail_three_times(board: JobBoard, database_url: str) -> None:
    for _ in range(3):
        wait_out_the_back_off(board)
        work_postings(database_url, failing())


# How It Works


def test_when_a_new_job_is_inserted_or_updated_and_has_no_embedding_it_is_added_to_the_embedding_queue(
    board: JobBoard, database_url: str
) -> None:
    inserted = board.post("Baker")
    assert in_queue(board, inserted) == [("pending", 0, None, False)]
    work_postings(database_url)
    board.settle()
    board.run("update jobs set title = 'Nurse'")
    assert in_queue(board, inserted) == [("pending", 0, None, False)]


def test_a_background_job_processes_the_queue_and_generates_embeddings(board: JobBoard, database_url: str) -> None:
    job = board.post("Baker")
    assert {sensor.name for sensor in defs.get_repository_def().sensor_defs} >= {"job_embeddings_sensor"}
    assert process_due(Settings(), database_url, EXAMPLES, "job_embeddings").completed == 1
    assert board.embedded() == {job}


def test_failed_embeddings_are_retried_up_to_3_times_before_giving_up(board: JobBoard, database_url: str) -> None:
    job = board.post()
    for attempt in (1, 2):
        work_postings(database_url, failing())
        assert in_queue(board, job) == [("pending", attempt, "no luck", False)]
        wait_out_the_back_off(board)
    work_postings(database_url, failing())
    assert in_queue(board, job) == [("failed", 3, "no luck", True)]


# Setup Instructions: the migration, monitoring


def test_the_migration_creates_the_queue_the_triggers_on_jobs_and_functions_for_the_queue(board: JobBoard) -> None:
    assert board.run("select to_regclass('embedding_queue') is not null") == [True]
    triggers = board.run("select tgname from pg_trigger where tgrelid = 'jobs'::regclass and not tgisinternal")
    assert {"trigger_queue_embedding_insert", "trigger_queue_embedding_update"} <= set(triggers)
    assert board.run("select to_regprocedure('queue_status(text)') is not null") == [True]


def test_the_status_of_the_queue_tells_pending_retries_and_a_message(board: JobBoard, database_url: str) -> None:
    for _ in range(3):
        board.post("unlucky")
    work_postings(database_url, failing())
    for number in range(39):
        board.post(f"Baker {number}")
    status = client.status(board.connection, "job_embeddings")
    assert {name: status[name] for name in ("pending", "retries", "message")} == {
        "pending": 42,
        "retries": 3,
        "message": "42 jobs pending embedding generation",
    }


# How It Works: When Jobs Are Added


@pytest.mark.parametrize("statement", [UPSERT, UPSERT.partition("on conflict")[0]], ids=["upsert", "insert"])
def test_a_job_is_inserted_or_updated_via_upsert_or_insert(
    board: JobBoard, database_url: str, statement: str
) -> None:
    new, edited = UUID(int=1), UUID(int=2)
    board.run(statement, new, "Baker")
    assert board.queued() == {new}
    if statement is UPSERT:
        board.run(statement, edited, "Baker")
        work_postings(database_url)
        board.run(statement, new, "Baker")
        board.run(statement, edited, "Nurse")
        assert board.queued() == {edited}


@pytest.mark.parametrize(
    ("event", "statement"),
    [
        ("insert", "insert into jobs (title, is_active) values ('Nurse', true)"),
        ("update", "update jobs set title = 'Nurse'"),
    ],
)
def test_the_trigger_of_an_insert_or_of_an_update_fires(board: JobBoard, event: str, statement: str) -> None:
    board.post("Baker")
    board.settle()
    with board.connection.transaction(force_rollback=True):
        board.run(f"alter table jobs disable trigger trigger_queue_embedding_{event}")
        board.run(statement)
        assert board.queued() == set()
    board.run(statement)
    assert board.queued() == set(board.run("select id from jobs where title = 'Nurse'"))


def test_if_a_job_is_active_and_has_no_embedding_it_is_added_to_the_embedding_queue(
    board: JobBoard, database_url: str
) -> None:
    active, inactive = board.post("Baker"), board.post("Cook", is_active=False)
    assert board.queued() == {active}
    work_postings(database_url)
    board.run("alter table jobs add salary integer")
    board.run("update jobs set salary = 10, title = title")
    assert board.queued() == set()
    board.run("update jobs set is_active = true")
    assert board.queued() == {inactive}


def test_the_queue_processor_picks_it_up_on_its_next_run(board: JobBoard, database_url: str) -> None:
    work_postings(database_url)
    job = board.post()
    assert work_postings(database_url).completed == 1
    assert board.embedded() == {job}


# How It Works: Queue Processing


def test_up_to_100_jobs_are_fetched_at_once_oldest_first(board: JobBoard, database_url: str) -> None:
    for number in range(250):
        board.post(f"{number:03}")
    board.run(
        "update job_queue set created_at = now() - title::integer * interval '1 minute' "
        "from jobs where jobs.id = entity_id"
    )
    embedder = LetterEmbedder(concurrency=1)
    work_postings(database_url, embedder)
    assert [len(request) for request in embedder.requests] == [100, 100, 50]
    asked = [text for request in embedder.requests for text in request]
    assert asked == sorted(asked, reverse=True)


def test_embeddings_are_generated_by_the_text_embedder_and_stored_in_the_database(
    board: JobBoard, database_url: str
) -> None:
    job = board.post("Baker", company="Loaf", description="Bread")
    embedder = LetterEmbedder()
    work_postings(database_url, embedder)
    assert embedder.requests == [["Baker\n\nLoaf\n\nBread"]]
    rows = board.connection.execute("select job_id, model, dimensions, vector_dims(embedding) from job_embeddings")
    assert rows.fetchall() == [(job, "letters", 3, 3)]


def test_jobs_are_marked_as_processed_or_failed_with_a_retry_count(board: JobBoard, database_url: str) -> None:
    good = board.post("Baker")
    work_postings(database_url)
    bad = board.post("Nurse")
    fail_three_times(board, database_url)
    assert in_queue(board, good) == [("completed", 0, None, True)]
    assert in_queue(board, bad) == [("failed", 3, "no luck", True)]


# Retry Logic


def test_jobs_that_fail_are_retried_up_to_3_times(board: JobBoard, database_url: str) -> None:
    board.post()
    embedder = failing()
    for _ in range(5):
        wait_out_the_back_off(board)
        work_postings(database_url, embedder)
    assert len(embedder.requests) == 3


def test_after_3_failures_a_job_is_marked_as_permanently_failed(board: JobBoard, database_url: str) -> None:
    job = board.post()
    fail_three_times(board, database_url)
    assert in_queue(board, job) == [("failed", 3, "no luck", True)]
    assert board.run("select matching_pipeline.enqueue_missing()") == [0]


def test_one_can_retry_by_hand_by_clearing_processed_at_and_error_message(board: JobBoard, database_url: str) -> None:
    job = board.post()
    fail_three_times(board, database_url)
    board.run("update embedding_queue set processed_at = null, error_message = null where job_id = %s", job)
    assert in_queue(board, job) == [("pending", 0, None, False)]
    work_postings(database_url, failing())
    assert in_queue(board, job) == [("pending", 1, "no luck", False)]
    wait_out_the_back_off(board)
    work_postings(database_url)
    assert in_queue(board, job) == [("completed", 1, None, True)]
    assert board.embedded() == {job}


# Testing


def test_insert_a_test_job_check_it_is_in_queue_process_the_queue_verify_the_embedding(
    board: JobBoard, database_url: str
) -> None:
    job = board.post("Baker", company="Loaf", description="Bread in the morning")
    assert in_queue(board, job) == [("pending", 0, None, False)]
    process_due(Settings(), database_url, EXAMPLES, "job_embeddings")
    assert in_queue(board, job) == [("completed", 0, None, True)]
    assert board.embedded() == {job}
