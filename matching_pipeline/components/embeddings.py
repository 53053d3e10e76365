"""The asset of a result for each item, and what the embeddings of pictures and of texts report."""

from collections.abc import Callable
from typing import Any

import dagster as dg
from pydantic import Field

from matching_pipeline.components.checks import everything_is_accounted_for, model_is_unchanged, no_failed_jobs
from matching_pipeline.components.metadata import Metadata, cost_today, coverage, models_of
from matching_pipeline.components.reporting import AssetReport, process_by_hand
from matching_pipeline.components.resources import Pipeline
from matching_pipeline.components.sources import content_table
from matching_pipeline.db.connections import Connection
from matching_pipeline.models.registry import shadow_queue
from matching_pipeline.sources.declarations import Declarations, ImageEmbeddings, OfItems, TextEmbeddings
from matching_pipeline.sources.enqueue import NotFound, enqueue_entities, enqueue_missing, enqueue_resync

NEWEST = 8
"""Rows that a report shows."""

DescribeNewest = Callable[[Connection, str], dg.MetadataValue[Any]]
"""Shows the newest embeddings of a queue."""


class EntitiesConfig(dg.Config):
    """What to queue before processing. By default all that has no current result."""

    entities: dict[str, list[str]] = Field(
        default={}, description="by source, the keys of entities that are processed again"
    )
    missing: bool = Field(default=True, description="also all that has no current result")
    resync: bool = Field(default=False, description="also rows of the app's tables that no trigger saw")


def items_asset(
    declared: OfItems, declarations: Declarations, report: AssetReport, *, group: str, description: str
) -> dg.AssetsDefinition:
    sources = [declarations.source(name) for name in declared.sources]

    @dg.asset(
        name=declared.name,
        deps=sorted({content_table(source) for source in sources}),
        group_name=group,
        owners=declared.owners,
        kinds={"postgres", "python"},
        description=f"{description} Materialize it to process what is missing; list entities in the launchpad to "
        "process them again.",
    )
    def items(
        context: dg.AssetExecutionContext, config: EntitiesConfig, pipeline: Pipeline
    ) -> dg.MaterializeResult[None]:
        with pipeline.connection() as connection:
            if config.missing:
                queued = enqueue_missing(connection, declared.name)
                context.log.info(f"{queued} jobs were missing and are queued")
            if config.resync:
                for source in declared.sources:
                    enqueue_resync(connection, source)
            _enqueue(connection, declared, config.entities)
        return process_by_hand(context, pipeline, report)

    return items


def _enqueue(connection: Connection, declared: OfItems, entities: dict[str, list[str]]) -> None:
    with connection.transaction():
        for source, keys in entities.items():
            if source not in declared.sources:
                raise NotFound(f"{declared.name} has no source {source}, only {', '.join(declared.sources)}")
            enqueue_entities(connection, source, keys)


def embeddings_report(
    declared: ImageEmbeddings | TextEmbeddings, describe_newest: DescribeNewest, *, what: str
) -> AssetReport:
    """`what` is embedded: pictures or texts."""
    name, sources = declared.name, " and ".join(declared.sources)
    shadow = shadow_queue(name)

    def describe(pipeline: Pipeline) -> Metadata:
        with pipeline.connection() as connection:
            covered = coverage(connection, name)
            return {
                **covered,
                "dagster/row_count": covered["covered"],
                **models_of(connection, name),
                **cost_today(connection, name, shadow),
                "newest": describe_newest(connection, name),
            }

    return AssetReport(
        name,
        detects={name: f"{what} of {sources} that have no current embedding"},
        shadows=(shadow,),
        describe=describe,
        table=f"{declared.expose}.{name}" if declared.expose else "matching_pipeline.embeddings",
        checks=(
            everything_is_accounted_for(
                name,
                "every_entity_is_accounted_for",
                f"All {what} of {sources} have a current embedding, wait or failed for a stated reason.",
            ),
            no_failed_jobs(
                name,
                name,
                "no_failed_jobs",
                "No job has failed for good; one that has waits for a person to retry it.",
            ),
            no_failed_jobs(
                name,
                shadow,
                "no_failed_shadow_jobs",
                "No job has failed for good with the shadow model, if there is one.",
            ),
            model_is_unchanged(name),
        ),
    )
