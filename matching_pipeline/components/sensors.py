"""The sensors: one keeps the standing worker alive. Each queue has one that says what it detects."""

import dagster as dg
import psycopg

from matching_pipeline.components.resources import Pipeline
from matching_pipeline.components.version import version_of
from matching_pipeline.components.worker import WorkerConfig, worker
from matching_pipeline.db.connections import Connection, connect
from matching_pipeline.handlers import registry
from matching_pipeline.models.registry import shadow_queue
from matching_pipeline.queues import client
from matching_pipeline.queues.supervision import WorkerPolicy, request_worker

TICK_SECONDS = 5
"""Dagster looks at sensors no more often."""
QUEUE_TICK_SECONDS = 15
"""The sensors of queues tick less often: `worker_sensor` keeps a worker alive. They replace it if it is off."""


@dg.sensor(
    name="worker_sensor",
    job=worker,
    minimum_interval_seconds=TICK_SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Starts the standing worker where none is alive, and its successor when it is old, runs "
    "other code or settings, or failed in a queue. Starts helpers, up to MAX_WORKERS, while jobs "
    "wait for more than ten seconds.",
)
def worker_sensor(context: dg.SensorEvaluationContext, pipeline: Pipeline) -> dg.RunRequest | dg.SkipReason:
    try:
        with connect(pipeline.database_url) as connection:
            return _ask(context.instance, connection, pipeline)
    except psycopg.OperationalError as error:
        return dg.SkipReason(f"the database is away: {error}")


def queue_sensor(queue: str, detects: str) -> dg.SensorDefinition:
    """`detects` says what the jobs of the queue are for. The sensor watches the shadow's queue too."""

    @dg.sensor(
        name=f"{queue}_sensor",
        # by name: Dagster copies a job for each component that has it
        job_name=worker.name,
        minimum_interval_seconds=QUEUE_TICK_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Detects {detects}, and starts the standing worker where none serves them.",
    )
    def sensor(context: dg.SensorEvaluationContext, pipeline: Pipeline) -> dg.RunRequest | dg.SkipReason:
        try:
            with connect(pipeline.database_url) as connection:
                in_use = registry.in_use(connection, pipeline.declarations)
                queues = [each for each in in_use if each in (queue, shadow_queue(queue))]
                states = {each: client.queue_state(connection, each) for each in queues}
                told = "; ".join(
                    _told(each, state, client.queue_pause(connection, each)) for each, state in states.items()
                )
                if all(not state.due or state.workers for state in states.values()):
                    return dg.SkipReason(told)
                asked = _ask(context.instance, connection, pipeline)
                if isinstance(asked, dg.SkipReason):
                    return dg.SkipReason(f"{told}; {asked.skip_message}")
                return asked
        except psycopg.OperationalError as error:
            return dg.SkipReason(f"the database is away: {error}")

    return sensor


def _ask(instance: dg.DagsterInstance, connection: Connection, pipeline: Pipeline) -> dg.RunRequest | dg.SkipReason:
    queues = registry.queues(pipeline.declarations)
    if not queues:
        return dg.SkipReason("no declaration has a queue")
    queued = dg.RunsFilter(job_name=worker.name, statuses=[dg.DagsterRunStatus.QUEUED])
    if instance.get_runs_count(queued):
        return dg.SkipReason("a run of the worker waits in Dagster's run queue for its turn")
    settings = pipeline.settings
    version = version_of(settings, pipeline.declarations)
    policy = WorkerPolicy(version, settings.worker_seconds, settings.max_workers)
    asked = request_worker(connection, queues, policy)
    if isinstance(asked, str):
        return dg.SkipReason(asked)
    id, request = asked
    config = WorkerConfig(requested=id, version=policy.version, helps=request.helps)
    return dg.RunRequest(
        run_config=dg.RunConfig({"serve_queues": config}), tags={"matching_pipeline/because": request.because}
    )


def _told(queue: str, state: client.QueueState, pause: client.Pause | None) -> str:
    served = f"{state.workers} workers serve it" if state.workers > 1 else "a worker serves it"
    served = served if state.workers else "no worker serves it"
    if pause:
        return f"{queue}: {pause}, {state.waiting} jobs are due; {served}"
    if state.due:
        return f"{queue}: {state.waiting}{' or more' if state.waiting == 1000 else ''} jobs are due, {served}"
    if state.seconds_to_next is not None:
        return f"{queue}: nothing is due, the next job in {state.seconds_to_next:.0f} s; {served}"
    return f"{queue}: nothing is pending; {served}"
