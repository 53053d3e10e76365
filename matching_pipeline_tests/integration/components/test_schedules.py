"""The nightly schedule and the cleanup."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import dagster as dg

from matching_pipeline.components.resources import RUN_TAGS, Pipeline
from matching_pipeline.db.connections import Connection
from matching_pipeline.definitions import defs
from matching_pipeline.queues import client


def test_the_nightly_schedule_asks_for_the_day_that_has_begun(instance: dg.DagsterInstance) -> None:
    repository = defs.get_repository_def()
    schedule = repository.get_schedule_def("nightly_schedule")
    night = datetime(2026, 11, 20, 3, 0, tzinfo=UTC)
    context = dg.build_schedule_context(instance, scheduled_execution_time=night, repository_def=repository)
    requests = schedule.evaluate_tick(context).run_requests
    assert requests is not None
    assert [request.partition_key for request in requests] == ["2026-11-20"]


def test_schedules_and_sensors_run_from_the_first_start_on() -> None:
    repository = defs.get_repository_def()
    running = {
        **{schedule.name: schedule.default_status.value for schedule in repository.schedule_defs},
        **{sensor.name: sensor.default_status.value for sensor in repository.sensor_defs},
    }
    assert running == dict.fromkeys(
        (
            *("nightly_schedule", "cleanup_schedule"),
            *("image_ai_sensor", "job_embeddings_sensor", "matches_project_sensor", "matches_face_sensor"),
            *("generated_images_sensor", "publishing_sensor", "worker_sensor"),
        ),
        "RUNNING",
    )


def is_ours(job: dg.JobDefinition) -> bool:
    return RUN_TAGS.items() <= job.run_tags.items()


def test_cleanup_removes_what_is_older_than_the_settings_keep(
    pipeline: Pipeline, instance: dg.DagsterInstance, connection: Connection
) -> None:
    client.enqueue(connection, "image_ai", "project", [str(uuid4()) for _ in range(5)])
    connection.execute("update matching_pipeline.jobs set status = 'completed', completed_at = now()")
    connection.execute(
        """update matching_pipeline.jobs set completed_at = now() - interval '8 days'
        where id in (select id from matching_pipeline.jobs limit 2)"""
    )
    long_ago = datetime.now(UTC) - timedelta(days=31)
    # another team's project may have a job with the name of one of ours
    for job, status, tags in (
        ("worker", dg.DagsterRunStatus.SUCCESS, defs.get_job_def("worker").run_tags),
        ("worker", dg.DagsterRunStatus.STARTED, defs.get_job_def("worker").run_tags),
        ("cleanup", dg.DagsterRunStatus.SUCCESS, {}),
    ):
        run = dg.DagsterRun(job_name=job, run_id=str(uuid4()), status=status, tags=tags)
        instance.run_storage.add_historical_run(run, long_ago)
    defs.get_job_def("cleanup").execute_in_process(instance=instance, resources={"pipeline": pipeline})
    row = connection.execute("select count(*) from matching_pipeline.jobs").fetchone()
    assert row == (3,)
    old = dg.RunsFilter(created_before=long_ago + timedelta(days=1))
    assert {(run.job_name, run.status) for run in instance.get_runs(old)} == {
        ("worker", dg.DagsterRunStatus.STARTED),
        ("cleanup", dg.DagsterRunStatus.SUCCESS),
    }
    assert all(is_ours(defs.resolve_job_def(job)) for job in ("worker", "process_now", "nightly", "cleanup"))
