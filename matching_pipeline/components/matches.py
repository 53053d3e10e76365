"""`matches`: which products belong to which projects, and which faces to which, best first."""

from typing import Any

import dagster as dg

from matching_pipeline.components.image_ai import image_ai
from matching_pipeline.components.job_embeddings import job_embeddings
from matching_pipeline.components.pictures import histogram, markdown_table, picture
from matching_pipeline.components.rebuild_steps import done_by, plan, rebuild_shard
from matching_pipeline.components.reporting import AssetReport, queue_check_result, reported_check
from matching_pipeline.components.resources import Pipeline
from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import query
from matching_pipeline.handlers import registry
from matching_pipeline.matches.projects import best_matches
from matching_pipeline.settings import Settings

# with the offset today is a partition: the table holds what is true now, and today's partition keeps today's figures
daily = dg.DailyPartitionsDefinition(start_date="2026-11-01", end_offset=1)


@dg.op(
    ins={"shards": dg.In(dg.Nothing)},
    out=dg.Out(dg.Nothing),
    description="Tells what the shards of the rebuild did.",
)
def report(context: dg.OpExecutionContext, pipeline: Pipeline) -> dg.Output[None]:
    done = done_by(context, pipeline)
    figures = {**vars(done.figures), "shards": done.shards, "busy seconds": round(done.seconds, 3)}
    return dg.Output(None, metadata={**figures, **describe_matches(pipeline)})


@dg.graph_asset(
    ins={name: dg.AssetIn(dagster_type=dg.Nothing) for name in ("image_ai", "faces", "profiles")},
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
    return report(shards=shards.collect())


def describe_matches(pipeline: Pipeline) -> dict[str, Any]:
    """Projects and faces apart. Of faces only numbers: an erasure does not reach the copies that the UI keeps."""
    with pipeline.connection() as connection:
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


@reported_check(
    asset=matches, description="No pair is below the threshold or was made by another than the active model."
)
def every_pair_holds(pipeline: Pipeline) -> dg.AssetCheckResult:
    with pipeline.connection() as connection:
        below, other_model = connection.execute(query("pairs_that_do_not_hold")).fetchone() or (0, 0)
    return dg.AssetCheckResult(
        passed=not below and not other_model, metadata={"below threshold": below, "other model": other_model}
    )


@reported_check(asset=matches, description="No project or product has failed to be matched for good.")
def no_failed_matches(pipeline: Pipeline) -> dg.AssetCheckResult:
    return queue_check_result(pipeline, registry.MATCHES)


@reported_check(asset=matches, description="No face has failed to be matched for good.")
def no_failed_faces(pipeline: Pipeline) -> dg.AssetCheckResult:
    return queue_check_result(pipeline, registry.FACES, anonymous=True)


matches_report = AssetReport(
    "matches",
    queues=(registry.MATCHES, registry.FACES),
    describe=describe_matches,
    # the sampled lists cost a pass over all vectors: they come with a rebuild only
    checks=(every_pair_holds, no_failed_matches, no_failed_faces),
    partition=daily.get_last_partition_key,
)

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
