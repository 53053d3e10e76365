"""`job_embeddings`: an embedding for every active job posting."""

from typing import Any

import dagster as dg
from pydantic import Field

from matching_pipeline.components.pictures import markdown_table
from matching_pipeline.components.reporting import (
    AssetReport,
    accounted_for,
    cost_today,
    coverage,
    describe_models,
    process_by_hand,
    queue_check_result,
    reported_check,
)
from matching_pipeline.components.resources import Pipeline
from matching_pipeline.db.queries import query
from matching_pipeline.handlers import registry
from matching_pipeline.sources.enqueue import enqueue_missing


class PostingsConfig(dg.Config):
    """What to queue before processing. By default every active posting that lacks a current embedding."""

    missing: bool = Field(default=True, description="every active posting that has no current embedding")


@dg.asset(
    deps=["jobs"],
    group_name="postings",
    kinds={"postgres", "python"},
    description="An embedding of the text of each active posting, by the active model; `find_similar_jobs` searches "
    "them. Materialize it to process what is missing.",
)
def job_embeddings(
    context: dg.AssetExecutionContext, config: PostingsConfig, pipeline: Pipeline
) -> dg.MaterializeResult[None]:
    if config.missing:
        with pipeline.connection() as connection:
            context.log.info(f"{enqueue_missing(connection, 'postings')} postings were missing and are queued")
    return process_by_hand(context, pipeline, job_embeddings_report)


def describe_job_embeddings(pipeline: Pipeline) -> dict[str, Any]:
    with pipeline.connection() as connection:
        newest = connection.execute(query("newest_job_embeddings"), {"count": 8}).fetchall()
        figures = {
            **coverage(connection, registry.JOB_EMBEDDINGS),
            **describe_models(connection, "text"),
            **cost_today(connection, registry.JOB_EMBEDDINGS, registry.JOB_EMBEDDINGS_SHADOW),
        }
    rows = [
        (title or "", company or "", f"`{model}`", embedded_at.isoformat(" ", "seconds"))
        for title, company, model, embedded_at in newest
    ]
    table = markdown_table(("title", "company", "model", "embedded at"), rows)
    return {**figures, "newest": dg.MetadataValue.md(table)}


@reported_check(
    asset=job_embeddings,
    description="Every active posting has a current embedding, waits in the queue, or failed for a stated reason.",
)
def every_posting_is_accounted_for(pipeline: Pipeline) -> dg.AssetCheckResult:
    return accounted_for(pipeline, registry.JOB_EMBEDDINGS)


@reported_check(
    asset=job_embeddings, description="No posting has failed for good; one that has waits for a person to retry it."
)
def no_failed_postings(pipeline: Pipeline) -> dg.AssetCheckResult:
    return queue_check_result(pipeline, registry.JOB_EMBEDDINGS)


@reported_check(
    asset=job_embeddings, description="No posting has failed for good with the shadow model, where there is one."
)
def no_failed_shadow_postings(pipeline: Pipeline) -> dg.AssetCheckResult:
    return queue_check_result(pipeline, registry.JOB_EMBEDDINGS_SHADOW)


job_embeddings_report = AssetReport(
    "job_embeddings",
    queues=(registry.JOB_EMBEDDINGS, registry.JOB_EMBEDDINGS_SHADOW),
    describe=describe_job_embeddings,
    checks=(every_posting_is_accounted_for, no_failed_postings, no_failed_shadow_postings),
)
