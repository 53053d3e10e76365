"""`job_embeddings`: an embedding for every active job posting."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import dagster as dg
from pydantic import Field

from matching_pipeline.components.draining import (
    accounted_for,
    cost_today,
    coverage,
    describe_models,
    drain_lane,
    queue_check_result,
)
from matching_pipeline.components.lane_sensors import queue_sensor
from matching_pipeline.components.pictures import markdown_table
from matching_pipeline.components.resources import Pipeline
from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import query
from matching_pipeline.handlers import registry
from matching_pipeline.sources.enqueue import enqueue_missing


class PostingsToProcess(dg.Config):
    """What to queue before draining. By default every active posting that lacks a current embedding."""

    missing: bool = Field(default=True, description="every active posting that has no current embedding")
    shadow: bool = Field(default=False, description="drain what the shadow model owes, not the active one")
    linger_seconds: float = Field(default=0.0, description="wait this long for more before the run ends")


@dg.asset(
    deps=["jobs"],
    group_name="postings",
    kinds={"postgres", "python"},
    output_required=False,
    description="An embedding of what each active posting says, by the active model; `find_similar_jobs` searches "
    "them. Materialize it to process what is missing.",
)
def job_embeddings(
    context: dg.AssetExecutionContext, config: PostingsToProcess, pipeline: Pipeline
) -> Iterator[dg.MaterializeResult[None]]:
    if config.missing:
        with pipeline.connection() as connection:
            context.log.info(f"{enqueue_missing(connection, 'postings')} postings were missing and are queued")

    def describe() -> dict[str, Any]:
        with pipeline.connection() as connection:
            return describe_job_embeddings(connection)

    queue = registry.JOB_EMBEDDINGS_SHADOW if config.shadow else registry.JOB_EMBEDDINGS
    metadata = drain_lane(context, pipeline, queue, describe, linger=config.linger_seconds)
    if metadata is not None:
        yield dg.MaterializeResult(metadata=metadata)


def describe_job_embeddings(connection: Connection) -> dict[str, Any]:
    newest = connection.execute(query("newest_job_embeddings"), {"count": 8}).fetchall()
    rows = [
        (title or "", company or "", f"`{model}`", embedded_at.isoformat(" ", "seconds"))
        for title, company, model, embedded_at in newest
    ]
    table = markdown_table(("title", "company", "model", "embedded at"), rows)
    return {
        **coverage(connection, registry.JOB_EMBEDDINGS),
        **describe_models(connection, "text"),
        **cost_today(connection, registry.JOB_EMBEDDINGS, registry.JOB_EMBEDDINGS_SHADOW),
        "newest": dg.MetadataValue.md(table),
    }


what_waits = partial(PostingsToProcess, missing=False)
job_embeddings_sensor = queue_sensor(registry.JOB_EMBEDDINGS, job_embeddings, what_waits)
job_embeddings_shadow_sensor = queue_sensor(
    registry.JOB_EMBEDDINGS_SHADOW, job_embeddings, partial(what_waits, shadow=True)
)


@dg.asset_check(
    asset=job_embeddings,
    description="Every active posting has a current embedding, waits in the queue, or failed for a stated reason.",
)
def every_posting_is_accounted_for(pipeline: Pipeline) -> dg.AssetCheckResult:
    return accounted_for(pipeline, registry.JOB_EMBEDDINGS)


@dg.asset_check(
    asset=job_embeddings, description="No posting has failed for good; one that has waits for a person to retry it."
)
def no_failed_postings(pipeline: Pipeline) -> dg.AssetCheckResult:
    return queue_check_result(pipeline, registry.JOB_EMBEDDINGS)


@dg.asset_check(
    asset=job_embeddings, description="No posting has failed for good with the shadow model, where there is one."
)
def no_failed_shadow_postings(pipeline: Pipeline) -> dg.AssetCheckResult:
    return queue_check_result(pipeline, registry.JOB_EMBEDDINGS_SHADOW)
