"""Sensors, tick by tick: the queues and the table `workers` are their only state."""

from pathlib import Path
from uuid import uuid4

import dagster as dg
import pytest

from matching_pipeline.components.resources import Pipeline
from matching_pipeline.components.sensors import worker_sensor
from matching_pipeline.components.version import version_of
from matching_pipeline.db.connections import Connection, connect
from matching_pipeline.definitions import defs
from matching_pipeline.queues import client
from matching_pipeline_tests.integration.components.conftest import QUEUES, sensor
from matching_pipeline_tests.integration.conftest import until


def tick(
    ticking: dg.SensorDefinition, pipeline: Pipeline, instance: dg.DagsterInstance
) -> dg.RunRequest | dg.SkipReason:
    with dg.build_sensor_context(instance=instance, resources={"pipeline": pipeline}, definitions=defs) as context:
        result = ticking(context)
    assert isinstance(result, dg.RunRequest | dg.SkipReason)
    return result


def skipped(result: dg.RunRequest | dg.SkipReason) -> str:
    assert isinstance(result, dg.SkipReason), result
    return result.skip_message or ""


def requested(result: dg.RunRequest | dg.SkipReason) -> dict[str, object]:
    """The configuration of the worker."""
    assert isinstance(result, dg.RunRequest), result
    assert result.run_key is None
    config: dict[str, object] = result.run_config["ops"]["serve_queues"]["config"]
    return config


def enqueue_one(connection: Connection, queue: str) -> None:
    if queue == "generated_images":  # it refuses pictures of a project that does not exist
        connection.execute("insert into projects (source_image_url) values ('file:///photo')")
        connection.execute("select enqueue_image(id, 'white_background') from projects")
    else:
        client.enqueue(connection, queue, "project", [str(uuid4())])


def let_a_worker_serve(connection: Connection, pipeline: Pipeline, version: str | None = None) -> None:
    """A row as of a worker that entered an hour less a minute ago; `connection` holds its lock."""
    (row,) = connection.execute(
        """insert into matching_pipeline.workers (version, run_id, requested_at, started_at, entered_at)
        values (%s, 'f7d1c0de-run', now() - interval '59 minutes', now() - interval '59 minutes', now())
        returning id""",
        (version or version_of(pipeline.settings, pipeline.declarations),),
    ).fetchall()
    connection.execute("select pg_advisory_lock(matching_pipeline.worker_lock(), %s)", row)


def test_the_worker_is_started_before_anything_is_due_and_once(
    pipeline: Pipeline, instance: dg.DagsterInstance
) -> None:
    config = requested(tick(worker_sensor, pipeline, instance))
    assert config == {"requested": 1, "version": version_of(pipeline.settings, pipeline.declarations), "helps": False}
    assert skipped(tick(worker_sensor, pipeline, instance)) == "worker 1 is starting"


@pytest.mark.parametrize("queue", QUEUES)
def test_a_queue_without_jobs_is_skipped_with_a_reason(
    pipeline: Pipeline, instance: dg.DagsterInstance, queue: str
) -> None:
    reason = skipped(tick(sensor(queue), pipeline, instance))
    assert reason == f"{queue}: nothing is pending; no worker serves it"


def test_a_paused_queue_requests_no_worker_and_says_who_paused_it(
    pipeline: Pipeline, instance: dg.DagsterInstance, connection: Connection
) -> None:
    enqueue_one(connection, "image_ai")
    client.pause(connection, "image_ai", "anna")
    reason = skipped(tick(sensor("image_ai"), pipeline, instance))
    assert reason == "image_ai: paused by anna until it is resumed, 1 jobs are due; no worker serves it"
    client.resume(connection, "image_ai")
    assert requested(tick(sensor("image_ai"), pipeline, instance))["requested"] == 1


@pytest.mark.parametrize("queue", QUEUES)
def test_due_jobs_that_no_worker_serves_request_one(
    pipeline: Pipeline, instance: dg.DagsterInstance, connection: Connection, queue: str
) -> None:
    enqueue_one(connection, queue)
    assert requested(tick(sensor(queue), pipeline, instance))["requested"] == 1
    reason = skipped(tick(sensor(queue), pipeline, instance))
    assert reason == f"{queue}: 1 jobs are due, no worker serves it; worker 1 is starting"


def test_a_sensor_says_how_much_waits_and_that_a_worker_serves_it(
    pipeline: Pipeline, instance: dg.DagsterInstance, connection: Connection, database_url: str
) -> None:
    enqueue_one(connection, "image_ai")
    with connect(database_url) as worker, connect(database_url) as other:
        client.take_worker_slot(worker, "image_ai", 2)
        told = skipped(tick(sensor("image_ai"), pipeline, instance))
        assert told == "image_ai: 1 jobs are due, a worker serves it"
        client.take_worker_slot(other, "image_ai", 2)
        told = skipped(tick(sensor("image_ai"), pipeline, instance))
        assert told == "image_ai: 1 jobs are due, 2 workers serve it"


def test_a_new_posting_requests_the_worker(
    pipeline: Pipeline, instance: dg.DagsterInstance, connection: Connection
) -> None:
    connection.execute("insert into jobs (title) values ('Baker')")
    requested(tick(sensor("job_embeddings"), pipeline, instance))


@pytest.mark.parametrize(("queue", "modality"), [("image_ai", "image"), ("job_embeddings", "text")])
def test_the_sensor_of_a_queue_speaks_for_its_shadow_where_there_is_one(
    pipeline: Pipeline, instance: dg.DagsterInstance, connection: Connection, queue: str, modality: str
) -> None:
    enqueue_one(connection, f"{queue}_shadow")
    assert skipped(tick(sensor(queue), pipeline, instance)) == f"{queue}: nothing is pending; no worker serves it"
    connection.execute("insert into matching_pipeline.embedding_models values ('new', %s, 3, 'shadow')", (modality,))
    requested(tick(sensor(queue), pipeline, instance))
    assert f"{queue}_shadow: 1 jobs are due" in skipped(tick(sensor(queue), pipeline, instance))


def test_jobs_of_another_queue_are_not_its_business(
    pipeline: Pipeline, instance: dg.DagsterInstance, connection: Connection
) -> None:
    enqueue_one(connection, "image_ai")
    assert "nothing is pending" in skipped(tick(sensor("matches_project"), pipeline, instance))


def test_jobs_that_are_due_later_are_skipped_and_the_reason_says_when(
    pipeline: Pipeline, instance: dg.DagsterInstance, connection: Connection
) -> None:
    enqueue_one(connection, "image_ai")
    connection.execute("update matching_pipeline.jobs set run_at = now() + interval '90 seconds'")
    assert "nothing is due, the next job in 9" in skipped(tick(sensor("image_ai"), pipeline, instance))


def test_a_worker_that_serves_is_left_alone_and_relieved_when_it_is_old_or_another_version(
    pipeline: Pipeline,
    instance: dg.DagsterInstance,
    connection: Connection,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with connect(database_url) as worker:
        let_a_worker_serve(worker, pipeline)
        assert skipped(tick(worker_sensor, pipeline, instance)).startswith(
            "worker 1 in run f7d1c0de serves all queues"
        )
        monkeypatch.setenv("WORKER_SECONDS", "3000")
        request = tick(worker_sensor, pipeline, instance)
        assert isinstance(request, dg.RunRequest)
        assert "worker 1 in run f7d1c0de runs other code or settings" in request.tags.values()


def test_a_killed_worker_is_replaced_at_the_next_tick(
    pipeline: Pipeline,
    instance: dg.DagsterInstance,
    connection: Connection,
) -> None:
    connection.execute(
        "insert into matching_pipeline.workers (version, started_at, entered_at) values ('1', now(), now())"
    )
    # for some seconds after a start of the server each worker counts as alive
    until(connection, "clock_timestamp() - pg_postmaster_start_time() > interval '15 seconds'")
    requested(tick(worker_sensor, pipeline, instance))


def test_overdue_jobs_get_a_helper(
    pipeline: Pipeline, instance: dg.DagsterInstance, connection: Connection, database_url: str
) -> None:
    enqueue_one(connection, "image_ai")
    connection.execute("update matching_pipeline.jobs set run_at = now() - interval '11 seconds'")
    with connect(database_url) as worker:
        let_a_worker_serve(worker, pipeline)
        assert requested(tick(worker_sensor, pipeline, instance))["helps"] is True


def test_while_a_run_of_the_worker_is_queued_no_other_is_requested(
    pipeline: Pipeline, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    queued = dg.RunsFilter(job_name="worker", statuses=[dg.DagsterRunStatus.QUEUED])
    monkeypatch.setattr(instance, "get_runs_count", lambda filters: int(filters == queued))
    assert "waits in Dagster's run queue" in skipped(tick(worker_sensor, pipeline, instance))


def test_two_sensors_request_one_worker(
    pipeline: Pipeline, instance: dg.DagsterInstance, connection: Connection
) -> None:
    enqueue_one(connection, "image_ai")
    enqueue_one(connection, "matches_face")
    results = [tick(each, pipeline, instance) for each in (*map(sensor, QUEUES), worker_sensor)]
    assert sum(isinstance(result, dg.RunRequest) for result in results) == 1


def test_a_database_that_is_away_is_a_reason_to_skip(
    pipeline: Pipeline, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://postgres@127.0.0.1:1/postgres")
    for each in (worker_sensor, sensor("matches_face")):
        assert skipped(tick(each, pipeline, instance)).startswith("the database is away")


@pytest.mark.usefixtures("pipeline")
def test_no_worker_is_started_where_nothing_has_a_queue(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    undeclared = Pipeline(definitions_dir=str(tmp_path))
    assert skipped(tick(worker_sensor, undeclared, instance)) == "no declaration has a queue"
