"""Sensors, tick by tick: the queue is their only state."""

import time
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import dagster as dg
import pytest

from matching_pipeline.components import lane_sensors
from matching_pipeline.components.image_ai import image_ai_sensor, image_ai_shadow_sensor
from matching_pipeline.components.job_embeddings import job_embeddings_sensor, job_embeddings_shadow_sensor
from matching_pipeline.components.lane_sensors import KEEPS_FAILING, QUEUE_TAG
from matching_pipeline.components.matches import daily, faces_sensor, matches_sensor
from matching_pipeline.components.resources import Pipeline
from matching_pipeline.db.connections import Connection, connect
from matching_pipeline.definitions import defs
from matching_pipeline.queues import client


def tick(
    sensor: dg.SensorDefinition, pipeline: Pipeline, instance: dg.DagsterInstance
) -> dg.RunRequest | dg.SkipReason:
    with dg.build_sensor_context(instance=instance, resources={"pipeline": pipeline}, definitions=defs) as context:
        result = sensor(context)
    assert isinstance(result, dg.RunRequest | dg.SkipReason)
    return result


def skipped(result: dg.RunRequest | dg.SkipReason) -> str:
    assert isinstance(result, dg.SkipReason), result
    return result.skip_message or ""


def enqueue_one(connection: Connection, queue: str) -> None:
    client.enqueue(connection, queue, "project", [uuid4()])


def test_an_empty_lane_is_skipped_with_a_reason(pipeline: Pipeline, instance: dg.DagsterInstance) -> None:
    assert skipped(tick(image_ai_sensor, pipeline, instance)) == "nothing is pending"


def test_due_work_requests_a_run_again_and_again_without_a_run_key(
    pipeline: Pipeline, instance: dg.DagsterInstance, connection: Connection
) -> None:
    enqueue_one(connection, "image_ai")
    for _ in range(2):
        request = tick(image_ai_sensor, pipeline, instance)
        assert isinstance(request, dg.RunRequest)
        assert request.run_key is None
        assert request.tags[QUEUE_TAG] == "image_ai"
        assert request.run_config["ops"]["image_ai"]["config"]["missing"] is False


def test_a_matches_run_drains_into_todays_partition(
    pipeline: Pipeline, instance: dg.DagsterInstance, connection: Connection
) -> None:
    enqueue_one(connection, "matches")
    request = tick(matches_sensor, pipeline, instance)
    assert isinstance(request, dg.RunRequest)
    assert request.partition_key == daily.get_last_partition_key()
    assert request.run_config["ops"]["matches"]["config"]["rebuild"] is False


def test_a_run_names_its_asset_and_the_checks_that_come_with_a_drain(
    pipeline: Pipeline, instance: dg.DagsterInstance, connection: Connection
) -> None:
    enqueue_one(connection, "faces")
    request = tick(faces_sensor, pipeline, instance)
    assert isinstance(request, dg.RunRequest)
    assert request.asset_selection == [dg.AssetKey("matches")]
    checks = {key.name for key in request.asset_check_keys or ()}
    assert checks == {"every_pair_holds", "no_failed_matches", "no_failed_faces"}
    job = defs.get_repository_def().get_job(faces_sensor.targets[0].job_name)
    subset = job.get_subset(
        asset_selection=set(request.asset_selection), asset_check_selection=set(request.asset_check_keys or ())
    )
    assert {node.name for node in subset.nodes} == {node.name for node in job.nodes}


def test_a_new_posting_requests_a_run(
    pipeline: Pipeline, instance: dg.DagsterInstance, connection: Connection
) -> None:
    assert skipped(tick(job_embeddings_sensor, pipeline, instance)) == "nothing is pending"
    connection.execute("insert into jobs (title) values ('Baker')")
    request = tick(job_embeddings_sensor, pipeline, instance)
    assert isinstance(request, dg.RunRequest)
    assert request.tags[QUEUE_TAG] == "job_embeddings"
    assert request.run_config["ops"]["job_embeddings"]["config"]["missing"] is False


@pytest.mark.parametrize(
    ("sensor", "queue"),
    [(image_ai_shadow_sensor, "image_ai"), (job_embeddings_shadow_sensor, "job_embeddings")],
)
def test_a_shadow_has_a_sensor_of_its_own(
    pipeline: Pipeline,
    instance: dg.DagsterInstance,
    connection: Connection,
    sensor: dg.SensorDefinition,
    queue: str,
) -> None:
    enqueue_one(connection, queue)
    assert skipped(tick(sensor, pipeline, instance)) == "nothing is pending"
    enqueue_one(connection, f"{queue}_shadow")
    request = tick(sensor, pipeline, instance)
    assert isinstance(request, dg.RunRequest)
    assert request.tags[QUEUE_TAG] == f"{queue}_shadow"
    assert request.run_config["ops"][queue]["config"]["shadow"] is True


def test_work_of_another_lane_is_not_its_business(
    pipeline: Pipeline, instance: dg.DagsterInstance, connection: Connection
) -> None:
    enqueue_one(connection, "image_ai")
    assert skipped(tick(matches_sensor, pipeline, instance)) == "nothing is pending"


def test_work_that_is_due_later_is_skipped_and_says_when(
    pipeline: Pipeline, instance: dg.DagsterInstance, connection: Connection
) -> None:
    enqueue_one(connection, "image_ai")
    connection.execute("update job_queue set run_at = now() + interval '90 seconds'")
    assert skipped(tick(image_ai_sensor, pipeline, instance)).startswith("nothing is due; the next item is in 9")


def test_a_drain_that_is_alive_is_enough_until_work_is_overdue_and_a_dead_one_is_none(
    pipeline: Pipeline, instance: dg.DagsterInstance, connection: Connection, database_url: str
) -> None:
    enqueue_one(connection, "image_ai")
    with connect(database_url) as one, connect(database_url) as other:
        client.take_drain_slot(one, "image_ai", 2)
        assert skipped(tick(image_ai_sensor, pipeline, instance)) == "1 drains are at it already"
        connection.execute("update job_queue set run_at = now() - interval '11 seconds'")
        assert isinstance(tick(image_ai_sensor, pipeline, instance), dg.RunRequest)
        client.take_drain_slot(other, "image_ai", 2)
        assert skipped(tick(image_ai_sensor, pipeline, instance)) == "2 drains are at it already"
    assert isinstance(tick(image_ai_sensor, pipeline, instance), dg.RunRequest)


@pytest.mark.parametrize(
    ("status", "counts"),
    [
        (dg.DagsterRunStatus.NOT_STARTED, True),
        (dg.DagsterRunStatus.STARTING, True),
        (dg.DagsterRunStatus.FAILURE, False),
    ],
)
def test_a_run_that_is_about_to_drain_counts_and_one_that_failed_does_not(
    pipeline: Pipeline,
    instance: dg.DagsterInstance,
    connection: Connection,
    status: dg.DagsterRunStatus,
    counts: bool,
) -> None:
    enqueue_one(connection, "image_ai")
    instance.add_run(
        dg.DagsterRun(job_name="drain", run_id=str(uuid4()), status=status, tags={QUEUE_TAG: "image_ai"})
    )
    assert isinstance(tick(image_ai_sensor, pipeline, instance), dg.SkipReason) is counts


@pytest.mark.parametrize("status", [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED])
def test_a_run_that_has_barely_begun_gets_its_chance_before_a_second_is_started(
    pipeline: Pipeline, instance: dg.DagsterInstance, connection: Connection, status: dg.DagsterRunStatus
) -> None:
    enqueue_one(connection, "image_ai")
    connection.execute("update job_queue set run_at = now() - interval '11 seconds'")
    instance.add_run(
        dg.DagsterRun(job_name="drain", run_id=str(uuid4()), status=status, tags={QUEUE_TAG: "image_ai"})
    )
    assert skipped(tick(image_ai_sensor, pipeline, instance)) == "a run for it is starting"


def test_after_two_failed_runs_there_is_a_pause(
    pipeline: Pipeline, instance: dg.DagsterInstance, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    enqueue_one(connection, "image_ai")
    for _ in range(2):
        assert isinstance(tick(image_ai_sensor, pipeline, instance), dg.RunRequest)
        run = dg.DagsterRun(job_name="drain", run_id=str(uuid4()), tags={QUEUE_TAG: "image_ai"})
        instance.report_run_failed(instance.add_run(run))
    assert skipped(tick(image_ai_sensor, pipeline, instance)) == KEEPS_FAILING
    monkeypatch.setattr(lane_sensors, "PAUSE_SECONDS", 0)
    assert isinstance(tick(image_ai_sensor, pipeline, instance), dg.RunRequest)


def test_a_waiting_tick_sees_a_new_row_at_once(
    pipeline: Pipeline, instance: dg.DagsterInstance, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SENSOR_WAIT_SECONDS", "20")
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(tick, image_ai_sensor, pipeline, instance)
        time.sleep(1)
        assert not waiting.done()
        enqueue_one(connection, "image_ai")
        inserted = time.monotonic()
        assert isinstance(waiting.result(timeout=20), dg.RunRequest)
        assert time.monotonic() - inserted < 10


def test_a_waiting_tick_leaves_when_everything_is_told_to_stop(
    pipeline: Pipeline, instance: dg.DagsterInstance, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SENSOR_WAIT_SECONDS", "20")
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(tick, image_ai_sensor, pipeline, instance)
        told = time.monotonic()
        while not waiting.done():  # it hears only what is said once it listens
            assert time.monotonic() - told < 15
            client.stop_all(connection)
            time.sleep(0.2)
        assert skipped(waiting.result()) == "told to stop waiting"


def test_a_database_that_is_away_is_a_reason_to_skip(
    pipeline: Pipeline, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://postgres@127.0.0.1:1/postgres")
    assert skipped(tick(image_ai_sensor, pipeline, instance)).startswith("the database is away")
