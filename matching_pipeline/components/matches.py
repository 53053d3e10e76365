"""`matches`: which products belong to which projects, and which faces to which, best first."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import dagster as dg
from pydantic import Field

from matching_pipeline.components.draining import drain_lane, queue_check_result
from matching_pipeline.components.image_ai import image_ai
from matching_pipeline.components.job_embeddings import job_embeddings
from matching_pipeline.components.lane_sensors import queue_sensor
from matching_pipeline.components.parity import sampled_lists_are_exact
from matching_pipeline.components.pictures import histogram, markdown_table, picture
from matching_pipeline.components.rebuild_steps import done_by, plan, rebuild_shard
from matching_pipeline.components.resources import Pipeline
from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import query
from matching_pipeline.handlers import registry
from matching_pipeline.handlers.matches import best_matches
from matching_pipeline.settings import Settings

# with the offset today is a partition: `matches` is what stands now, and today's partition keeps today's figures
daily = dg.DailyPartitionsDefinition(start_date="2026-11-01", end_offset=1)


class HowToMatch(dg.Config):
    rebuild: bool = Field(
        default=True, description="compute all matches anew; otherwise drain what waits in the queue"
    )
    queue: str = Field(
        default=registry.MATCHES, description="when draining: `matches` for projects and products, or `faces`"
    )
    linger_seconds: float = Field(
        default=0.0, description="when draining, wait this long for more before the run ends"
    )


@dg.op(
    ins={"shards": dg.In(dg.Nothing)},
    out=dg.Out(dg.Nothing, is_required=False),
    description="Tells what the rebuild's shards did; where the run only drains, drains.",
)
def drain_or_report(
    context: dg.OpExecutionContext, config: HowToMatch, pipeline: Pipeline
) -> Iterator[dg.Output[None]]:
    def describe() -> dict[str, Any]:
        with pipeline.connection() as connection:
            return describe_matches(connection)

    if config.rebuild:
        done = done_by(context, pipeline)
        figures = {**vars(done.figures), "shards": done.shards, "busy seconds": round(done.seconds, 3)}
        yield dg.Output(None, metadata={**figures, **describe()})
        return
    metadata = drain_lane(
        context,
        pipeline,
        config.queue,
        describe,
        linger=config.linger_seconds,
        until=context.partition_time_window.end,
        partition=context.partition_key,
    )
    if metadata is not None:
        yield dg.Output(None, metadata=metadata)


@dg.config_mapping
def each_step(config: HowToMatch) -> dict[str, Any]:
    return {
        "plan": {"config": {"rebuild": config.rebuild}},
        "drain_or_report": {"config": config.model_dump()},
    }


@dg.graph_asset(
    ins={name: dg.AssetIn(dagster_type=dg.Nothing) for name in ("image_ai", "faces", "profiles")},
    config=each_step,
    group_name="matching",
    kinds={"postgres", "numpy"},
    partitions_def=daily,
    backfill_policy=dg.BackfillPolicy.single_run(),
    description="A project's best products, and a face's best faces. The table holds what is true now; a day's "
    "partition keeps the day's figures, so a backfill of many days is one rebuild, and a day without figures lacks "
    "nothing. To rebuild, materialize the partition *Latest*.",
)
def matches(image_ai: None, faces: None, profiles: None) -> Any:
    shards = plan(image_ai=image_ai, faces=faces, profiles=profiles).map(lambda each: rebuild_shard(planned=each))
    return drain_or_report(shards=shards.collect())


def describe_matches(connection: Connection) -> dict[str, Any]:
    """Projects and faces apart. Of faces only numbers: what the UI keeps, an erasure does not reach."""
    return {**_describe_projects(connection), **_describe_faces(connection)}


def _describe_projects(connection: Connection) -> dict[str, Any]:
    rows = [
        (
            f"{best.similarity:.3f}",
            picture(best.project_thumbnail),
            picture(best.product_thumbnail),
            f"`{best.project_id}`",
            f"`{best.product_id}`",
        )
        for best in best_matches(connection, 8)
    ]
    header = ("score", "project", "product", "project id", "product id")
    best = dg.MetadataValue.md(markdown_table(header, rows))
    return {**_scores(connection, "project"), "best matches": best}


def _describe_faces(connection: Connection) -> dict[str, Any]:
    schools = connection.execute(query("school_figures"), {"count": 20}).fetchall()
    header = ("school", "female faces", "male faces", "faces with matches", "pairs", "mean similarity")
    return {**_scores(connection, "face"), "schools": dg.MetadataValue.md(markdown_table(header, schools))}


def _scores(connection: Connection, kind: str) -> dict[str, Any]:
    counts = [count for (count,) in connection.execute(query("match_histogram"), {"kind": kind})]
    plot = picture(histogram(counts, 0, 1), f"{kind} scores")
    return {f"{kind} pairs": sum(counts), f"{kind} scores": dg.MetadataValue.md(plot)}


AT_NIGHT = [sampled_lists_are_exact]
what_waits = partial(HowToMatch, rebuild=False)
matches_sensor = queue_sensor(
    registry.MATCHES, matches, partial(what_waits, queue=registry.MATCHES), without=AT_NIGHT
)
faces_sensor = queue_sensor(registry.FACES, matches, partial(what_waits, queue=registry.FACES), without=AT_NIGHT)


@dg.asset_check(
    asset=matches, description="No pair is below the threshold or was made by another than the active model."
)
def every_pair_holds(pipeline: Pipeline) -> dg.AssetCheckResult:
    with pipeline.connection() as connection:
        below, other_model = connection.execute(query("pairs_that_do_not_hold")).fetchone() or (0, 0)
    return dg.AssetCheckResult(
        passed=not below and not other_model, metadata={"below threshold": below, "other model": other_model}
    )


@dg.asset_check(asset=matches, description="No project or product has failed to be matched for good.")
def no_failed_matches(pipeline: Pipeline) -> dg.AssetCheckResult:
    return queue_check_result(pipeline, registry.MATCHES)


@dg.asset_check(asset=matches, description="No face has failed to be matched for good.")
def no_failed_faces(pipeline: Pipeline) -> dg.AssetCheckResult:
    return queue_check_result(pipeline, registry.FACES, anonymous=True)


nightly = dg.define_asset_job(
    "nightly",
    selection=dg.AssetSelection.assets(image_ai, job_embeddings, matches),
    # the shards of the rebuild run beside each other
    executor_def=dg.multiprocess_executor,
    tags={"dagster/max_runtime": "21600"},
    description="Processes every image and posting that is missing, then rebuilds all matches.",
)

nightly_schedule = dg.build_schedule_from_partitioned_job(
    nightly, hour_of_day=Settings().nightly_hour_utc, default_status=dg.DefaultScheduleStatus.RUNNING
)
