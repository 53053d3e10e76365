"""`image_ai`: an embedding and attributes for every project and product image."""

from typing import Any
from uuid import UUID

import dagster as dg
from pydantic import Field

from matching_pipeline.components.pictures import markdown_table, picture
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
from matching_pipeline.sources.enqueue import enqueue_images, enqueue_missing


class ImagesConfig(dg.Config):
    """What to queue before processing. By default every image that lacks an up-to-date row."""

    projects: list[str] = Field(default=[], description="ids of projects whose images are processed again")
    products: list[str] = Field(default=[], description="ids of products whose images are processed again")
    missing: bool = Field(default=True, description="also every image that has no up-to-date row")


@dg.asset(
    deps=["listing_images", "product_images"],
    group_name="images",
    kinds={"postgres", "python"},
    description="An embedding and attributes of each image, by the active model. Materialize it to process what "
    "is missing; list projects or products in the launchpad to process their images again.",
)
def image_ai(
    context: dg.AssetExecutionContext, config: ImagesConfig, pipeline: Pipeline
) -> dg.MaterializeResult[None]:
    with pipeline.connection() as connection:
        if config.missing:
            context.log.info(f"{enqueue_missing(connection, 'images')} images were missing and are queued")
        enqueue_images(connection, [UUID(id) for id in config.projects], [UUID(id) for id in config.products])
    return process_by_hand(context, pipeline, image_ai_report)


def describe_image_ai(pipeline: Pipeline) -> dict[str, Any]:
    with pipeline.connection() as connection:
        newest = connection.execute(query("newest_image_ai"), {"count": 8}).fetchall()
        figures = {
            **coverage(connection, registry.IMAGE_AI),
            **describe_models(connection, "image"),
            **cost_today(connection, registry.IMAGE_AI, registry.IMAGE_AI_SHADOW),
        }
    rows = [
        (picture(thumbnail), source, ", ".join(f"{key}: {_text(value)}" for key, value in attributes.items()))
        for source, thumbnail, attributes in newest
    ]
    return {**figures, "newest": dg.MetadataValue.md(markdown_table(("image", "source", "attributes"), rows))}


def _text(value: str | list[str]) -> str:
    return value if isinstance(value, str) else ", ".join(value)


@reported_check(
    asset=image_ai,
    description="Every image has an up-to-date row, waits in the queue, or failed for a stated reason.",
)
def every_image_is_accounted_for(pipeline: Pipeline) -> dg.AssetCheckResult:
    return accounted_for(pipeline, registry.IMAGE_AI)


@reported_check(
    asset=image_ai, description="No image has failed for good; one that has waits for a person to retry it."
)
def no_failed_images(pipeline: Pipeline) -> dg.AssetCheckResult:
    return queue_check_result(pipeline, registry.IMAGE_AI)


@reported_check(asset=image_ai, description="No image has failed for good with the shadow model, where there is one.")
def no_failed_shadow_images(pipeline: Pipeline) -> dg.AssetCheckResult:
    return queue_check_result(pipeline, registry.IMAGE_AI_SHADOW)


image_ai_report = AssetReport(
    "image_ai",
    queues=(registry.IMAGE_AI, registry.IMAGE_AI_SHADOW),
    describe=describe_image_ai,
    checks=(every_image_is_accounted_for, no_failed_images, no_failed_shadow_images),
)
