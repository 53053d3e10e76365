"""The assets that have a result for each picture or text: embeddings, and what classes of the app's team compute."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import dagster as dg
from pydantic import Field

from matching_pipeline.components.checks import (
    ReportedCheck,
    everything_is_accounted_for,
    model_is_unchanged,
    no_failed_jobs,
)
from matching_pipeline.components.metadata import Metadata, cost_today, coverage, models_of
from matching_pipeline.components.pictures import markdown_table, picture
from matching_pipeline.components.reporting import AssetReport, process_by_hand
from matching_pipeline.components.resources import Pipeline
from matching_pipeline.components.sources import content_table
from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import query
from matching_pipeline.models.registry import shadow_queue
from matching_pipeline.sources.declarations import Declarations, Derived, OfItems
from matching_pipeline.sources.enqueue import NotFound, enqueue_entities, enqueue_missing, enqueue_resync

NEWEST = 8
"""Rows that a report shows."""
GROUPS = {"image": "images", "text": "texts", "derive": "derived"}
WHAT = {"image": "pictures", "text": "texts", "derive": "items"}


class EntitiesConfig(dg.Config):
    """What to queue before processing. By default all that has no current result."""

    entities: dict[str, list[str]] = Field(
        default={}, description="by source, the keys of entities that are processed again"
    )
    missing: bool = Field(default=True, description="also all that has no current result")
    resync: bool = Field(default=False, description="also rows of the app's tables that no trigger saw")


def items_asset(declared: OfItems, declarations: Declarations) -> dg.AssetsDefinition:
    report = items_report(declared)

    @dg.asset(
        name=declared.name,
        deps=sorted({content_table(declarations.source(name)) for name in declared.sources}),
        group_name=GROUPS[declared.work],
        owners=declared.owners,
        kinds={"postgres", "python"},
        description=f"{_described(declared)} Materialize it to process what is missing; list entities in the "
        "launchpad to process them again.",
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


def items_report(declared: OfItems) -> AssetReport:
    name, of_models = declared.name, not isinstance(declared, Derived)
    what = WHAT[declared.work]
    detects = (
        f"{what} of {' and '.join(declared.sources)} that have no current {'embedding' if of_models else 'value'}"
    )
    own_table = "matching_pipeline.embeddings" if of_models else f"matching_pipeline.derived_{name}"
    return AssetReport(
        name,
        detects={name: detects},
        shadows=(shadow_queue(name),) if of_models else (),
        describe=partial(_describe, declared),
        table=f"{declared.expose}.{name}" if declared.expose else own_table,
        checks=list(_checks(declared)),
    )


def _checks(declared: OfItems) -> Iterator[ReportedCheck]:
    name, what = declared.name, f"{WHAT[declared.work]} of {' and '.join(declared.sources)}"
    accounted = f"All {what} have a current result, wait or failed for a stated reason."
    yield everything_is_accounted_for(name, "every_entity_is_accounted_for", accounted)
    failed = "No job has failed for good; one that has waits for a person to retry it."
    yield no_failed_jobs(name, name, "no_failed_jobs", failed)
    if not isinstance(declared, Derived):
        failed = "No job has failed for good with the shadow model, if there is one."
        yield no_failed_jobs(name, shadow_queue(name), "no_failed_shadow_jobs", failed)
        yield model_is_unchanged(name)


def _describe(declared: OfItems, pipeline: Pipeline) -> Metadata:
    name = declared.name
    newest = {"image": _newest_pictures, "text": _newest_texts}.get(declared.work)
    with pipeline.connection() as connection:
        covered = coverage(connection, name)
        described = {**covered, "dagster/row_count": covered["covered"]}
        if newest:
            described |= {**models_of(connection, name), **cost_today(connection, name, shadow_queue(name))}
            described["newest"] = newest(connection, name)
    return described


def _described(declared: OfItems) -> str:
    sources = " and ".join(declared.sources)
    if isinstance(declared, Derived):
        return f"{', '.join(declared.columns)} of each item of {sources}, by `{declared.handler}`."
    attributes = " and the attributes" if declared.work == "image" else ""
    return f"The embedding{attributes} of all {WHAT[declared.work]} of {sources}, from the active model."


def _enqueue(connection: Connection, declared: OfItems, entities: dict[str, list[str]]) -> None:
    with connection.transaction():
        for source, keys in entities.items():
            if source not in declared.sources:
                raise NotFound(f"{declared.name} has no source {source}, only {', '.join(declared.sources)}")
            enqueue_entities(connection, source, keys)


def _newest_pictures(connection: Connection, queue: str) -> dg.MetadataValue[Any]:
    newest = connection.execute(query("newest_image_embeddings"), {"queue": queue, "count": NEWEST}).fetchall()
    rows = [
        (picture(thumbnail), source, ", ".join(f"{key}: {_text(value)}" for key, value in attributes.items()))
        for source, thumbnail, attributes in newest
    ]
    return dg.MetadataValue.md(markdown_table(("image", "source", "attributes"), rows))


def _newest_texts(connection: Connection, queue: str) -> dg.MetadataValue[Any]:
    newest = connection.execute(query("newest_text_embeddings"), {"queue": queue, "count": NEWEST}).fetchall()
    rows = [
        (source, f"`{key}`", f"`{model}`", embedded_at.isoformat(" ", "seconds"))
        for source, key, model, embedded_at in newest
    ]
    return dg.MetadataValue.md(markdown_table(("source", "key", "model", "embedded at"), rows))


def _text(value: str | list[str]) -> str:
    return value if isinstance(value, str) else ", ".join(value)
