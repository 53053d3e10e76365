"""`match_jobs`, as the field's API and operators use it: a view that takes inserts, retries and deletes."""

from uuid import UUID, uuid4

import psycopg
import pytest

from matching_pipeline.db.connections import connect
from matching_pipeline.queues import client
from matching_pipeline_tests.fixtures.notices import payloads
from matching_pipeline_tests.integration.school import School, embedding

INSERT = "insert into match_jobs (face_id, user_id, embedding, status) values (%s, %s, %s, 'pending') returning id"


@pytest.fixture
def face(school: School) -> UUID:
    """A school whose queue is empty."""
    face = school.face_of("female")
    school.process()
    school.settle()
    return face


@pytest.fixture
def failed(school: School) -> UUID:
    """A face whose only job has failed for good."""
    face = school.face_of("female", (0,))
    school.process()
    assert school.jobs() == [(face, "failed")]
    return face


def request_job(school: School, face: UUID) -> UUID:
    """Inserts a job as the field's API does."""
    (user,) = school.run("select user_id from faces where id = %s", face)
    (job,) = school.run(INSERT, face, user, embedding(1))
    return job  # type: ignore[no-any-return]


def claim(school: School) -> UUID:
    (job,) = school.run("select id from get_next_job('matches_face')")
    return job  # type: ignore[no-any-return]


def test_it_has_the_columns_of_the_fields_table(school: School) -> None:
    columns = school.connection.execute(
        "select attname, format_type(atttypid, atttypmod) from pg_attribute "
        "where attrelid = 'match_jobs'::regclass and attnum > 0 order by attnum"
    ).fetchall()
    assert columns == [
        ("id", "uuid"), ("face_id", "uuid"), ("user_id", "uuid"), ("embedding", "vector"), ("status", "text"),
        ("attempts", "integer"), ("max_attempts", "integer"), ("error_message", "text"),
        ("created_at", "timestamp with time zone"), ("started_at", "timestamp with time zone"),
        ("completed_at", "timestamp with time zone"),
    ]  # fmt: skip


def test_an_inserted_job_queues_its_face_and_is_returned_as_it_is(school: School, face: UUID) -> None:
    (user,) = school.run("select user_id from faces where id = %s", face)
    returned = school.connection.execute(
        "insert into match_jobs (face_id, user_id, embedding) values (%s, %s, %s) returning *",
        (face, user, embedding(1)),
    ).fetchall()
    assert returned == school.connection.execute("select * from match_jobs").fetchall()
    (_, face_id, user_id, _, status, attempts, max_attempts, error, created_at, started, completed) = returned[0]
    assert (face_id, user_id, status, attempts, max_attempts) == (face, user, "pending", 0, 3)
    assert created_at is not None
    assert (error, started, completed) == (None, None, None)


def test_after_the_upload_it_is_the_job_that_the_trigger_queued(school: School) -> None:
    face = school.face_of("female")
    assert request_job(school, face) == request_job(school, face)
    assert school.jobs() == [(face, "pending")]
    assert school.process().completed == 1


def test_in_the_uploads_own_transaction_and_statement_it_is_one_job_too(school: School, database_url: str) -> None:
    user = school.user()
    with connect(database_url) as app, app.transaction():
        app.execute("insert into faces (id, user_id, embedding) values (%s, %s, %s)", (user, user, embedding(1)))
        app.execute(INSERT, (user, user, embedding(1)))
        app.execute(INSERT, (user, user, embedding(1)))
    assert school.jobs() == [(user, "pending")]
    school.run(
        """with face as (insert into faces (user_id, embedding) values (%s, %s) returning *)
        insert into match_jobs (face_id, user_id, embedding) select id, user_id, embedding from face""",
        *(user, embedding(1)),
    )
    assert len(school.jobs()) == 2


def test_many_jobs_in_one_statement_are_one_a_face(school: School) -> None:
    faces = [school.face_of("female") for _ in range(3)]
    school.settle()
    school.run("insert into match_jobs (face_id, user_id, embedding) select id, user_id, embedding from faces, "
               "generate_series(1, 2)")  # fmt: skip
    assert sorted(school.jobs()) == [(face, "pending") for face in faces]


def test_while_it_is_processed_it_can_be_queued_once_more(school: School, face: UUID) -> None:
    request_job(school, face)
    claimed = claim(school)
    requested = request_job(school, face)
    assert requested != claimed
    assert request_job(school, face) == requested
    assert sorted(status for _, status in school.jobs()) == ["pending", "processing"]


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_above_read_committed_it_is_no_error_either(
    school: School, face: UUID, database_url: str, level: str
) -> None:
    (user,) = school.run("select user_id from faces where id = %s", face)
    with connect(database_url) as app, app.transaction():
        app.execute(f"set transaction isolation level {level}".encode())
        for _ in range(2):
            app.execute(INSERT, (face, user, embedding(1)))
    assert school.queued() == {face}
    school.process()
    assert school.queued() == set()


def test_two_requests_at_once_do_not_wait(school: School, face: UUID, database_url: str) -> None:
    (user,) = school.run("select user_id from faces where id = %s", face)
    with connect(database_url) as app, app.transaction():
        app.execute(INSERT, (face, user, embedding(1)))
        school.run("set lock_timeout = '2s'")
        request_job(school, face)
    assert school.queued() == {face}
    school.process()
    assert {status for _, status in school.jobs()} == {"completed"}


def test_a_job_for_a_face_that_is_not_there_is_refused(school: School, face: UUID) -> None:
    (user,) = school.run("select user_id from faces where id = %s", face)
    for unknown in (uuid4(), None):
        with pytest.raises(psycopg.errors.IntegrityError):
            school.run(INSERT, unknown, user, embedding(1))
    assert school.jobs() == []


def test_a_job_that_names_another_user_is_still_its_faces_users(school: School, face: UUID) -> None:
    school.run(INSERT, face, school.user("male"), embedding(0, 1))
    compared = school.connection.execute(
        "select match_jobs.user_id = faces.user_id, match_jobs.embedding = faces.embedding "
        "from match_jobs join faces on face_id = faces.id"
    )
    assert compared.fetchall() == [(True, True)]


def test_a_failed_job_is_retried_by_setting_it_to_pending(school: School, failed: UUID) -> None:
    (job,) = school.run("select id from match_jobs where face_id = %s", failed)
    with connect(school.database_url) as listener:
        client.listen(listener)
        school.run(
            "update match_jobs set status = 'pending', attempts = 0, error_message = null where status = 'failed'"
        )
        assert payloads(listener) == ["matches_face"]
    row = school.connection.execute("select id, status, attempts, error_message, completed_at from match_jobs")
    assert row.fetchall() == [(job, "pending", 0, None, None)]
    school.process()
    assert school.jobs() == [(failed, "failed")]


def test_a_repaired_retry_completes_and_leaves_no_failure(school: School, failed: UUID) -> None:
    school.run("update faces set embedding = %s where id = %s", embedding(1), failed)
    school.run("update match_jobs set status = 'pending' where status = 'failed'")
    assert school.jobs() == [(failed, "pending")]
    school.process()
    assert school.jobs() == [(failed, "completed")]


@pytest.mark.parametrize(
    "change",
    [
        "status = 'completed'", "status = 'processing'", "status = 'failed'", "attempts = 7", "max_attempts = 9",
        "face_id = gen_random_uuid()", "user_id = gen_random_uuid()", "error_message = 'x'", "completed_at = now()",
    ],
)  # fmt: skip
def test_any_other_update_is_refused_and_changes_nothing(school: School, face: UUID, change: str) -> None:
    request_job(school, face)
    before = school.connection.execute("select * from match_jobs").fetchall()
    with pytest.raises(psycopg.errors.FeatureNotSupported, match="from failed to pending"):
        school.run(f"update match_jobs set {change}")
    assert school.connection.execute("select * from match_jobs").fetchall() == before


@pytest.mark.parametrize("status", ["pending", "completed", "failed"])
def test_an_update_that_changes_nothing_is_no_error(school: School, face: UUID, status: str) -> None:
    request_job(school, face)
    school.run(
        "update matching_pipeline.jobs set status = %s, error_message = 'why', "
        "completed_at = case when %s = 'pending' then null else now() end",
        *(status, status),
    )
    school.run("update match_jobs set status = status, attempts = attempts")
    assert school.jobs() == [(face, status)]


def test_a_deleted_job_is_gone_and_other_queues_are_not_reached(school: School, face: UUID) -> None:
    request_job(school, face)
    client.enqueue(school.connection, "image_ai", "project", [str(face)])
    school.run("delete from match_jobs")
    assert school.run("select queue from job_queue") == ["image_ai"]


def test_a_job_that_is_deleted_while_it_is_processed_is_never_completed(school: School, face: UUID) -> None:
    request_job(school, face)
    job = claim(school)
    school.run("delete from match_jobs")
    assert school.run("select mark_job_completed(%s, 1)", job) == [False]
