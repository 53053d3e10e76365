"""One sensor a lane. The queue is the state: no cursor, no run key."""

import time
from collections.abc import Callable, Collection
from datetime import UTC, datetime, timedelta

import dagster as dg
import psycopg

from matching_pipeline.components.resources import Pipeline
from matching_pipeline.db.connections import Connection, connect
from matching_pipeline.queues import client

QUEUE_TAG = "matching_pipeline/lane"
STARTING_SECONDS = 20
"""A run that started less than this ago may not hold its drain's lock yet, or has hardly begun to drain."""
PAUSE_SECONDS = 60
"""After the second of two failed runs, such as a setting that is wrong makes."""
KEEPS_FAILING = f"its last two runs failed, and say why: another starts within {PAUSE_SECONDS} s"
OVERDUE_SECONDS = 10.0
"""Work that is due for longer is more than the drains that are alive can keep up with."""


def queue_sensor(
    queue: str,
    target: dg.AssetsDefinition,
    how: Callable[..., dg.Config],
    without: Collection[dg.AssetChecksDefinition] = (),
) -> dg.SensorDefinition:
    """Starts a drain when the lane has due work and room for one; meanwhile a tick waits for rows.

    `how` makes the asset's configuration of a drain, given `linger_seconds`. Its run evaluates the asset's checks,
    less those that cost too much to come with every drain.
    """

    selection = dg.AssetSelection.assets(target) - dg.AssetSelection.checks(*without)

    @dg.sensor(
        name=f"{queue}_sensor",
        target=selection,
        minimum_interval_seconds=1,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Starts a run when rows of the queue's lane `{queue}` are due and no drain is at them.",
    )
    def sensor(context: dg.SensorEvaluationContext, pipeline: Pipeline) -> dg.RunRequest | dg.SkipReason:
        settings = pipeline.settings
        try:
            with connect(pipeline.database_url) as connection:
                skip = await_due_work(
                    connection, context.instance, queue, settings.max_runs, settings.sensor_wait_seconds
                )
        except psycopg.OperationalError as error:
            return dg.SkipReason(f"the database is away: {error}")
        if skip:
            return dg.SkipReason(skip)
        assert context.repository_def is not None
        return dg.RunRequest(
            run_config=dg.RunConfig({target.node_def.name: how(linger_seconds=settings.linger_seconds)}),
            tags={QUEUE_TAG: queue},
            partition_key=target.partitions_def.get_last_partition_key() if target.partitions_def else None,
            # they narrow nothing: the UI shows a run's target by them only
            asset_selection=[target.key],
            asset_check_keys=[*selection.resolve_checks(context.repository_def.asset_graph)],
        )

    return sensor


def await_due_work(
    connection: Connection, instance: dg.DagsterInstance, queue: str, max_runs: int, wait_seconds: float
) -> str | None:
    """None as soon as a drain should start; after `wait_seconds` the reason why none should."""
    client.listen(connection)
    deadline = time.monotonic() + wait_seconds
    while True:
        state = client.queue_state(connection, queue)
        # what waits for a drain that has barely begun says nothing of whether that one can keep up
        starting = state.due and _is_starting(instance, queue)
        overdue = -(state.seconds_to_next or 0) > OVERDUE_SECONDS
        wanted = state.due and not starting and (state.drains == 0 or (overdue and state.drains < max_runs))
        keeps_failing = wanted and _keeps_failing(instance, queue)
        if wanted and not keeps_failing:
            return None
        if (remaining := deadline - time.monotonic()) <= 0:
            return KEEPS_FAILING if keeps_failing else _reason(state, starting)
        # one drain more or less is not announced: look again every second while work waits for room
        patience = 1.0 if state.due else max(state.seconds_to_next or remaining, 0.01)
        if client.wait_for_work(connection, queue, min(remaining, patience)) == client.STOP_ALL:
            return "told to stop waiting"


def _is_starting(instance: dg.DagsterInstance, queue: str) -> bool:
    """Whether a run of the lane was asked for, and does not hold its lock yet or only since a moment ago."""
    now = datetime.now(UTC)
    return any(
        instance.get_runs_count(dg.RunsFilter(tags={QUEUE_TAG: queue}, statuses=statuses, updated_after=since))
        for statuses, since in (
            # while other runs take all the room there is, more would only pile up
            ([dg.DagsterRunStatus.QUEUED], None),
            # a run that died before it started must not block the lane for ever
            ([dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTING], now - timedelta(seconds=180)),
            # at last, so that one that starts between two looks is rather seen twice than not at all
            ([dg.DagsterRunStatus.STARTED], now - timedelta(seconds=STARTING_SECONDS)),
        )
    )


def _keeps_failing(instance: dg.DagsterInstance, queue: str) -> bool:
    last = instance.get_run_records(dg.RunsFilter(tags={QUEUE_TAG: queue}), limit=2)
    failed = [record for record in last if record.dagster_run.status == dg.DagsterRunStatus.FAILURE]
    return len(failed) == 2 and time.time() - max(record.end_time or 0 for record in failed) < PAUSE_SECONDS


def _reason(state: client.QueueState, starting: bool) -> str:
    if starting:
        return "a run for it is starting"
    if state.due:
        return f"{state.drains} drains are at it already"
    if state.seconds_to_next is not None:
        return f"nothing is due; the next item is in {state.seconds_to_next:.0f} s"
    return "nothing is pending"
