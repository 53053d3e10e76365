"""`image_ai`: an embedding and attributes for every project and product image."""

from collections.abc import Iterator
from functools import partial
from typing import Any
from uuid import UUID

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
from matching_pipeline.components.pictures import markdown_table, picture
from matching_pipeline.components.resources import Pipeline
from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import query
from matching_pipeline.handlers import registry
from matching_pipeline.sources.enqueue import enqueue_images, enqueue_missing


class ImagesToProcess(dg.Config):
    """What to queue before draining. By default every image that lacks an up-to-date row."""

    projects: list[str] = Field(default=[], description="ids of projects whose images are processed anew")
    products: list[str] = Field(default=[], description="ids of products whose images are processed anew")
    missing: bool = Field(default=True, description="also every image that has no up-to-date row")
    shadow: bool = Field(default=False, description="drain what the shadow model owes, not the active one")
    linger_seconds: float = Field(default=0.0, description="wait this long for more before the run ends")


@dg.asset(
    deps=["listing_images", "product_images"],
    group_name="images",
    kinds={"postgres", "python"},
    output_required=False,
    description="An embedding and attributes of each image, by the active model. Materialize it to process what "
    "is missing; list projects or products in the launchpad to process theirs anew.",
)
def image_ai(
    context: dg.AssetExecutionContext, config: ImagesToProcess, pipeline: Pipeline
) -> Iterator[dg.MaterializeResult[None]]:
    with pipeline.connection() as connection:
        if config.missing:
            context.log.info(f"{enqueue_missing(connection, 'images')} images were missing and are queued")
        enqueue_images(connection, [UUID(id) for id in config.projects], [UUID(id) for id in config.products])

    def describe() -> dict[str, Any]:
        with pipeline.connection() as connection:
            return describe_image_ai(connection)

    queue = registry.IMAGE_AI_SHADOW if config.shadow else registry.IMAGE_AI
    metadata = drain_lane(context, pipeline, queue, describe, linger=config.linger_seconds)
    if metadata is not None:
        yield dg.MaterializeResult(metadata=metadata)


def describe_image_ai(connection: Connection) -> dict[str, Any]:
    newest = connection.execute(query("newest_image_ai"), {"count": 8}).fetchall()
    rows = [
        (picture(thumbnail), source, ", ".join(f"{key}: {_text(value)}" for key, value in attributes.items()))
        for source, thumbnail, attributes in newest
    ]
    return {
        **coverage(connection, registry.IMAGE_AI),
        **describe_models(connection, "image"),
        **cost_today(connection, registry.IMAGE_AI, registry.IMAGE_AI_SHADOW),
        "newest": dg.MetadataValue.md(markdown_table(("image", "source", "attributes"), rows)),
    }


def _text(value: str | list[str]) -> str:
    return value if isinstance(value, str) else ", ".join(value)


what_waits = partial(ImagesToProcess, missing=False)
image_ai_sensor = queue_sensor(registry.IMAGE_AI, image_ai, what_waits)
image_ai_shadow_sensor = queue_sensor(registry.IMAGE_AI_SHADOW, image_ai, partial(what_waits, shadow=True))


@dg.asset_check(
    asset=image_ai,
    description="Every image has an up-to-date row, waits in the queue, or failed for a stated reason.",
)
def every_image_is_accounted_for(pipeline: Pipeline) -> dg.AssetCheckResult:
    return accounted_for(pipeline, registry.IMAGE_AI)


@dg.asset_check(
    asset=image_ai, description="No image has failed for good; one that has waits for a person to retry it."
)
def no_failed_images(pipeline: Pipeline) -> dg.AssetCheckResult:
    return queue_check_result(pipeline, registry.IMAGE_AI)


@dg.asset_check(asset=image_ai, description="No image has failed for good with the shadow model, where there is one.")
def no_failed_shadow_images(pipeline: Pipeline) -> dg.AssetCheckResult:
    return queue_check_result(pipeline, registry.IMAGE_AI_SHADOW)
