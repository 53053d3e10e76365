"""«Auto-Match Generation: Deployment Guide»: its tests 1 to 4 and success criteria, by their names; and the SQL that
both field documents give for monitoring, word for word, with the right answers.

Not here is what asks pg_cron, pg_net, Edge Functions or `current_setting`, which are not there to be asked.
"""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import dagster as dg
import pytest

from matching_pipeline.components.matches import daily
from matching_pipeline.components.resources import Pipeline
from matching_pipeline.components.worker import QueueConfig
from matching_pipeline.db.connections import connect
from matching_pipeline.definitions import defs
from matching_pipeline.matches.feed import announcements
from matching_pipeline.queues import client
from matching_pipeline_tests.acceptance.face_app import FaceApp, tick_and_run, upload

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)

JOBS_OF_TEST_1 = "SELECT * FROM match_jobs ORDER BY created_at DESC LIMIT 5;"
JOBS_OF_TEST_2 = """SELECT id, status, created_at, completed_at
FROM match_jobs
ORDER BY created_at DESC
LIMIT 5;"""
MATCHES_OF_TEST_2 = """SELECT * FROM matches
WHERE face_a_id IN (SELECT face_id FROM match_jobs ORDER BY created_at DESC LIMIT 1)
   OR face_b_id IN (SELECT face_id FROM match_jobs ORDER BY created_at DESC LIMIT 1);"""


# Testing & Verification


def test_1_upload_photo_and_check_job_queue(app: FaceApp, photo: UUID) -> None:
    ((_, face, _, embedding, status, *_),) = app.all(JOBS_OF_TEST_1)
    assert (face, status) == (photo, "pending")
    assert [embedding] == app.run("select embedding from faces where id = %s", photo)


def test_2_verify_pg_cron_triggers(
    app: FaceApp, photo: UUID, pipeline: Pipeline, instance: dg.DagsterInstance
) -> None:
    """The sensor's tick requests a run at once, not after 60 seconds."""
    ((job, before, _, completed_at),) = app.all(JOBS_OF_TEST_2)
    assert (before, completed_at) == ("pending", None)
    tick_and_run(pipeline, instance)
    ((same, after, created_at, completed_at),) = app.all(JOBS_OF_TEST_2)
    assert (same, after) == (job, "completed")
    assert timedelta(0) < completed_at - created_at < MINUTE
    created = app.run("select id from matches where %s in (face_a_id, face_b_id)", photo)
    assert len(created) == 2
    assert set(ids(app.all(MATCHES_OF_TEST_2))) == set(created)


@pytest.mark.usefixtures("campus")
def test_3_verify_realtime_updates(app: FaceApp) -> None:
    """A photo of another user appears in an open feed."""
    with connect(app.database_url) as page, connect(app.database_url) as api, app.standing_workers():
        feed = announcements(page, timeout=10)
        upload(api, app.user("male", "HUST"))
        first = next(feed)
        upload(api, app.user("male", "UIT"))
        second = next(feed)
    assert [(new.matcher, new.count) for new in (first, second)] == [("face", 1), ("face", 2)]


def test_4_manual_edge_function_trigger(
    app: FaceApp, photo: UUID, pipeline: Pipeline, instance: dg.DagsterInstance
) -> None:
    """By hand it is a run of `process_now` with the queue `faces`."""
    for completed, added in ((1, 2), (0, 0)):
        result = defs.resolve_job_def("process_now").execute_in_process(
            resources={"pipeline": pipeline},
            instance=instance,
            run_config=dg.RunConfig({"process_queue": QueueConfig(queue="matches_face")}),
        )
        assert result.success
        (event,) = result.asset_materializations_for_node("process_queue")
        assert (event.asset_key, event.partition) == (dg.AssetKey("matches"), daily.get_last_partition_key())
        reported = event.metadata
        assert reported["completed"].value == completed
        assert reported.get("added", dg.IntMetadataValue(0)).value == added
    assert app.jobs() == [(photo, "completed")]


# Success Criteria


def test_success_criteria_from_upload_to_matches_in_the_feed(app: FaceApp, campus: dict[str, UUID]) -> None:
    """Job appears with status='pending'. Within 60 seconds, status changes to 'completed'. Matches appear (0-20
    records). Live match feed updates automatically. Matches are same school + opposite gender. The logs show
    successful processing."""
    with connect(app.database_url) as page:
        feed = announcements(page, timeout=10)
        photo = app.upload(app.user("male", "UIT"))
        assert app.jobs() == [(photo, "pending")]
        with app.standing_workers() as logs:
            app.await_idle(60)
        assert next(feed).count == 2
    assert app.jobs() == [(photo, "completed")]
    partners = {face for pair in app.pairs() if photo in pair for face in pair - {photo}}
    assert partners == {campus["a UIT female"], campus["another UIT female"]}
    assert [(log.completed, log.counts["failed"]) for log in logs] == [(1, 0)]


# Monitoring


@pytest.fixture
def watched(app: FaceApp) -> list[UUID]:
    """The ids of twelve jobs, newest first: the newest pending, then two that failed, then nine completed ones,
    of which the newest has two pairs. Each was created a minute after the one before."""
    women = [app.face_of("female", (1, place)) for place in (0.1, 0.2)]
    faces = [*women, *(app.face_of("male", (0, 0, place)) for place in range(1, 7)), app.face_of("male")]
    app.process()
    faces += [app.face_of("male", (0,)) for _ in range(2)]
    app.process()
    faces += [app.face_of("male", (1, 3))]
    jobs = []
    for place, face in enumerate(faces):
        # the n-th of those that ended took n seconds
        jobs += app.run(
            """update job_queue set created_at = %s,
                started_at = case when status = 'pending' then null else %s end,
                completed_at = case when status = 'pending' then null else %s end
            where entity_id = %s returning id""",
            *(NOON + place * MINUTE, NOON + place * MINUTE, NOON + place * (MINUTE + timedelta(seconds=1)), face),
        )
    assert len(jobs) == 12
    app.run("update job_queue set error_message = %s where id = %s", "Profile not found", jobs[9])
    return jobs[::-1]


def ids(rows: list[tuple[Any, ...]]) -> list[UUID]:
    return [row[0] for row in rows]


@pytest.mark.usefixtures("watched")
@pytest.mark.parametrize(
    "statement",
    [
        "SELECT status, COUNT(*) FROM match_jobs GROUP BY status;",
        """SELECT status, COUNT(*) as count
FROM match_jobs
GROUP BY status;""",
    ],
)
def test_job_queue_stats(app: FaceApp, statement: str) -> None:
    assert dict(app.all(statement)) == {"completed": 9, "failed": 2, "pending": 1}


def test_recent_jobs(app: FaceApp, watched: list[UUID]) -> None:
    rows = app.all("SELECT * FROM match_jobs ORDER BY created_at DESC LIMIT 10;")
    assert ids(rows) == watched[:10]
    assert [row[4] for row in rows] == ["pending", "failed", "failed", *["completed"] * 7]
    assert ids(app.all(JOBS_OF_TEST_1)) == ids(app.all(JOBS_OF_TEST_2)) == watched[:5]


def test_recent_jobs_with_their_processing_time(app: FaceApp, watched: list[UUID]) -> None:
    rows = app.all(
        """SELECT
  id,
  status,
  attempts,
  created_at,
  completed_at,
  completed_at - created_at as processing_time
FROM match_jobs
ORDER BY created_at DESC
LIMIT 10;"""
    )
    assert ids(rows) == watched[:10]
    assert [row[2] for row in rows] == [0, *[1] * 9]
    assert [row[5] for row in rows] == [None, *(timedelta(seconds=10 - place) for place in range(9))]


def test_failed_jobs(app: FaceApp, watched: list[UUID]) -> None:
    assert set(ids(app.all("SELECT * FROM match_jobs WHERE status = 'failed';"))) == set(watched[1:3])
    newest_first = app.all(
        """SELECT * FROM match_jobs
WHERE status = 'failed'
ORDER BY created_at DESC;"""
    )
    assert ids(newest_first) == watched[1:3]
    reasons = dict(app.all("SELECT id, error_message FROM match_jobs WHERE status = 'failed';"))
    assert "zeros" in reasons[watched[1]]
    assert reasons[watched[2]] == "Profile not found"


@pytest.mark.usefixtures("watched")
def test_average_processing_time(app: FaceApp) -> None:
    ((seconds,),) = app.all(
        """SELECT
  AVG(EXTRACT(EPOCH FROM (completed_at - created_at))) as avg_seconds
FROM match_jobs
WHERE status = 'completed'
  AND completed_at IS NOT NULL;"""
    )
    assert float(seconds) == pytest.approx(sum(range(9)) / 9)


def test_matches_of_the_newest_job(app: FaceApp, watched: list[UUID]) -> None:
    assert app.all(MATCHES_OF_TEST_2) == []
    app.run("delete from match_jobs where id = any (%s)", watched[:3])
    (face,) = app.run("select face_id from match_jobs where id = %s", watched[3])
    found = app.all(MATCHES_OF_TEST_2)
    assert set(ids(found)) == set(app.run("select id from matches where %s in (face_a_id, face_b_id)", face))
    assert len(found) == 2


@pytest.mark.usefixtures("campus")
def test_verify_filters(app: FaceApp) -> None:
    user = app.user("male", "UIT")
    statement = "SELECT school, gender FROM profiles WHERE id = 'USER_ID';"
    assert app.all(statement.replace("USER_ID", str(user))) == [("UIT", "male")]
    app.user("female", "UIT")
    potential = app.all(
        """SELECT COUNT(*) FROM profiles
WHERE school = 'UIT'
  AND gender = 'female'
  AND profile_type = 'user';"""
    )
    assert potential == [(4,)]


def test_cleanup_match_jobs_keeps_what_is_recent_and_what_failed(app: FaceApp, watched: list[UUID]) -> None:
    """The schedule `cleanup` in place of pg_cron's `cleanup-match-jobs`."""
    app.run("update job_queue set completed_at = now() - interval '8 days' where id = any (%s)", watched[1:6])
    app.run("update job_queue set completed_at = now() where id = any (%s)", watched[6:])
    assert client.purge(app.connection, timedelta(days=7)) == 3
    assert set(app.run("select id from match_jobs")) == {*watched[:3], *watched[6:]}
