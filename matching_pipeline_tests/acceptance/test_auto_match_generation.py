"""«Auto-Match Generation on Photo Upload»: its testing checklist, retry logic and error scenarios, a
test each, by their names. (The success criteria have a file of their own.)

Each part of Supabase has its counterpart here. `supabase db push` is `migrate`; the Edge Function is the
standing worker; pg_cron invoking it is a tick of `matches_face_sensor` that requests its run; its logs are the
report of the run.
"""

import time
from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

import dagster as dg
import pytest

from matching_pipeline.components.resources import Pipeline
from matching_pipeline.db.connections import connect
from matching_pipeline.db.migrations import migrate
from matching_pipeline.definitions import defs
from matching_pipeline.matches.feed import announcements
from matching_pipeline.queues import client
from matching_pipeline.sources.attach import attach, make_example_tables
from matching_pipeline_tests.acceptance.face_app import FaceApp, tick, tick_and_run, upload
from matching_pipeline_tests.conftest import EXAMPLES
from matching_pipeline_tests.integration.school import School

REFUSE = """
create sequence refusals;
create function refuse() returns trigger language plpgsql as $$
begin
    if nextval('refusals') <= %s then
        raise exception 'could not write block: No space left on device' using errcode = 'io_error';
    end if;
    return new;
end $$;
create trigger refuse before insert on matching_pipeline.matches for each row execute function refuse();
"""


# Testing Checklist


def test_deploy_migration_successfully(new_database: Callable[..., str]) -> None:
    url = new_database()
    with connect(url) as connection:
        assert migrate(connection)
    with connect(url) as connection:
        make_example_tables(connection)
        attach(connection, EXAMPLES)
        school = School(connection, "")
        assert school.run("select to_regclass('match_jobs') is not null") == [True]
        assert school.run("select count(*)::int from pg_proc where proname = 'find_similar_faces_filtered'") == [1]
        (index,) = school.run("select indexdef from pg_indexes where indexname = 'idx_profiles_school_gender'")
        assert "(school, gender) WHERE (profile_type = 'user'::text)" in index


def test_deploy_edge_function_successfully() -> None:
    repository = defs.get_repository_def()
    sensor = repository.get_sensor_def("matches_face_sensor")
    assert sensor.default_status is dg.DefaultSensorStatus.RUNNING
    assert repository.has_job("nightly")


def test_upload_photo_as_user_a(app: FaceApp, photo: UUID) -> None:
    """And: Verify job created in match_jobs table (status='pending')."""
    assert app.all("select face_id, status, attempts from match_jobs") == [(photo, "pending", 0)]


@pytest.mark.usefixtures("photo")
def test_wait_60_seconds_for_pg_cron(pipeline: Pipeline, instance: dg.DagsterInstance) -> None:
    began = time.monotonic()
    assert isinstance(tick(pipeline, instance), dg.RunRequest)
    assert time.monotonic() - began < 10


def test_verify_job_status_changed_to_completed(
    app: FaceApp, photo: UUID, pipeline: Pipeline, instance: dg.DagsterInstance
) -> None:
    tick_and_run(pipeline, instance)
    assert app.jobs() == [(photo, "completed")]
    assert app.run("select completed_at >= started_at and started_at >= created_at from match_jobs") == [True]
    assert isinstance(tick(pipeline, instance), dg.SkipReason)


def test_verify_matches_created_and_check_that_they_are_only_uit_females(
    app: FaceApp, campus: dict[str, UUID], photo: UUID, pipeline: Pipeline, instance: dg.DagsterInstance
) -> None:
    tick_and_run(pipeline, instance)
    theirs = {pair - {photo} for pair in app.pairs() if photo in pair}
    assert theirs == {frozenset([campus["a UIT female"]]), frozenset([campus["another UIT female"]])}
    assert app.rows() == app.expected_rows()


@pytest.mark.usefixtures("campus")
def test_verify_live_match_feed_auto_updates(app: FaceApp) -> None:
    with connect(app.database_url) as listener, app.standing_workers():
        feed = announcements(listener, timeout=10)
        user = app.user("male", "UIT")
        photo = upload(app.connection, user)
        heard = next(feed)
    assert (heard.matcher, heard.count) == ("face", 2)
    assert all(str(photo) in (pair.left_key, pair.right_key) for pair in heard.best)


def test_supabase_realtime_broadcasts_matches(new_database: Callable[..., str]) -> None:
    with connect(new_database()) as connection:
        connection.execute("create publication supabase_realtime")
        for _ in range(2):
            migrate(connection)
        make_example_tables(connection)
        for _ in range(2):
            attach(connection, EXAMPLES)
        tables = connection.execute(
            "select schemaname, tablename from pg_publication_tables where pubname = 'supabase_realtime'"
        )
        assert tables.fetchall() == [("public", "matches")]


@pytest.mark.parametrize("photos", [5, 10, 50])
def test_upload_5_or_more_photos_concurrently_no_race_conditions(app: FaceApp, photos: int) -> None:
    users = [app.user("male" if place % 2 else "female", "UIT") for place in range(photos)]
    with app.standing_workers(workers=4, batch_size=3) as summaries:
        faces = app.upload_at_once(users)
        app.await_idle()
    assert app.rows() == app.expected_rows()
    assert app.statuses().keys() == {"completed"}
    assert {face for face, _ in app.jobs()} == set(faces)
    assert sum(summary.counts["failed"] for summary in summaries) == 0


def test_failed_job_retry_logic(app: FaceApp, pipeline: Pipeline, instance: dg.DagsterInstance) -> None:
    """And, of the success criteria: Failed jobs retry automatically."""
    app.connection.execute((REFUSE % 1).encode())
    her = app.face_of("female")
    app.settle()
    photo = app.upload(app.user("male"))
    tick_and_run(pipeline, instance)
    assert app.all("select status, attempts from match_jobs") == [("pending", 1)]
    skipped = tick(pipeline, instance)
    assert isinstance(skipped, dg.SkipReason)
    assert "the next job in" in (skipped.skip_message or "")
    app.later()
    tick_and_run(pipeline, instance)
    assert app.all("select status, attempts, error_message from match_jobs") == [("completed", 2, None)]
    assert app.pairs() == {frozenset((her, photo))}


@pytest.mark.usefixtures("photo")
def test_monitor_edge_function_logs(pipeline: Pipeline, instance: dg.DagsterInstance) -> None:
    reported = tick_and_run(pipeline, instance)
    assert (reported["completed"], reported["failed attempts"], reported["added"]) == (1, 0, 2)


# Retry Logic


def test_max_attempts_3_and_exponential_backoff_1_min_2_min_4_min(app: FaceApp) -> None:
    app.connection.execute((REFUSE % 1000).encode())
    app.face_of("female")
    app.settle()
    app.upload(app.user("male"))
    waits = []
    for _ in range(3):
        app.process()
        waits += app.run(
            "select round(extract(epoch from run_at - now()) / 60)::int from matching_pipeline.jobs "
            "where status = 'pending'"
        )
    assert waits == [1, 2]
    assert app.all("select status, attempts, max_attempts from match_jobs") == [("failed", 3, 3)]


def test_a_fourth_attempt_where_it_is_granted_waits_4_min(app: FaceApp) -> None:
    app.connection.execute((REFUSE % 1000).encode())
    app.face_of("female")
    app.settle()
    app.upload(app.user("male"))
    app.run("update matching_pipeline.jobs set max_attempts = 4")
    for _ in range(3):
        app.process()
    (wait,) = app.run(
        "select extract(epoch from run_at - now())::float from matching_pipeline.jobs where status = 'pending'"
    )
    assert 225 < wait <= 240


def test_failed_jobs_stay_in_database_for_debugging(app: FaceApp) -> None:
    photo = app.face(app.user(), (0,))
    app.process()
    app.run(
        "update matching_pipeline.jobs set created_at = now() - interval '1 year', "
        "started_at = now() - interval '1 year', completed_at = now() - interval '1 year'"
    )
    client.purge(app.connection, keep=timedelta(0))
    assert app.jobs() == [(photo, "failed")]
    assert app.run("select error_message is not null from match_jobs") == [True]


# Error Scenarios


def test_no_candidates_found_job_completes_with_0_matches(app: FaceApp) -> None:
    photo = app.upload(app.user("male"))
    summary = app.process()
    assert (summary.completed, summary.counts["failed"], summary.figures["added"]) == (1, 0, 0)
    assert app.all("select face_id, status, error_message from match_jobs") == [(photo, "completed", None)]
    assert app.rows() == []


def test_database_error_retry_up_to_3_times(app: FaceApp) -> None:
    app.connection.execute((REFUSE % 2).encode())
    her = app.face_of("female")
    app.settle()
    photo = app.upload(app.user("male"))
    for attempts in (1, 2):
        app.process()
        assert app.all("select status, attempts from match_jobs") == [("pending", attempts)]
        assert "No space left on device" in app.run("select error_message from match_jobs")[0]
    app.process()
    assert app.all("select status, attempts, error_message from match_jobs") == [("completed", 3, None)]
    assert app.pairs() == {frozenset((her, photo))}


def test_profile_not_found_mark_as_failed_immediately(app: FaceApp) -> None:
    """Where the app has no foreign key; where it has one, the face goes with its user."""
    app.run("alter table faces drop constraint faces_user_id_fkey")
    photo = app.upload(app.user("male"))
    app.run("delete from profiles")
    app.process()
    assert app.all("select face_id, status, attempts from match_jobs") == [(photo, "failed", 1)]
    assert app.run("select error_message from match_jobs")[0].lower().startswith("profile not found")


def test_duplicate_matches_silent_skip(app: FaceApp, campus: dict[str, UUID], photo: UUID) -> None:
    app.process()
    before = app.all("select * from matches order by id")
    inserted = app.connection.execute(
        """insert into matching_pipeline.matches
            (matcher, left_id, right_id, left_key, right_key, left_item, right_item, similarity, left_rank, model)
        select matcher, left_id, right_id, left_key, right_key, left_item, right_item, similarity, left_rank, model
        from matching_pipeline.matches
        on conflict (left_id, right_id, matcher) do nothing"""
    )
    assert inserted.rowcount == 0
    # as the Edge Function did, which may still be deployed
    inserted = app.connection.execute(
        """INSERT INTO matches (face_a_id, face_b_id, similarity) SELECT face_a_id, face_b_id, 0.5 FROM matches
        ON CONFLICT (face_a_id, face_b_id) DO NOTHING"""
    )
    assert inserted.rowcount == 0
    for face in (photo, campus["a UIT female"]):
        app.run("insert into match_jobs (face_id) values (%s)", face)
    assert app.process().counts["failed"] == 0
    assert app.all("select * from matches order by id") == before
