"""A drain inside a run: its progress as materializations."""

import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import dagster as dg

from matching_pipeline.components.pictures import markdown_table
from matching_pipeline.components.resources import Pipeline
from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import named_rows, query
from matching_pipeline.handlers import registry
from matching_pipeline.models.registry import registered_models
from matching_pipeline.providers.call_log import queue_cost_today
from matching_pipeline.providers.factory import Modality
from matching_pipeline.queues import client
from matching_pipeline.queues.worker import Summary

REPORT_SECONDS = 10.0
"""The first batch is reported at once, then as often as this: events are kept for ever and grow the run."""

Metadata = Mapping[str, Any]


def drain_lane(
    context: dg.AssetExecutionContext | dg.OpExecutionContext,
    pipeline: Pipeline,
    queue: str,
    describe: Callable[[], Metadata],
    *,
    linger: float,
    until: datetime | None = None,
    partition: str | None = None,
) -> Metadata | None:
    """Drains the lane, reporting as it goes, and returns the metadata of the final report.

    A run that lingered and had nothing to do has nothing to report. `until` is the wall-clock end of the run's
    partition. SIGTERM or a lost database end it with their error, after the leases were given back.
    """
    settings = pipeline.settings
    reported, reported_items = float("-inf"), 0

    def report(summary: Summary) -> None:
        nonlocal reported, reported_items
        jobs = summary.counts.total()
        if jobs == reported_items or time.monotonic() - reported < REPORT_SECONDS:
            return
        context.log_event(
            dg.AssetMaterialization(
                context.asset_key, partition=partition, metadata={**_figures(summary), **describe()}
            )
        )
        reported, reported_items = time.monotonic(), jobs

    seconds = settings.drain_seconds
    if until is not None:
        seconds = min(seconds, (until - datetime.now(until.tzinfo)).total_seconds())
    summary = registry.drain(
        settings,
        pipeline.database_url,
        queue,
        linger=linger,
        deadline=time.monotonic() + seconds,
        on_progress=report,
    )
    context.log.info(f"{queue}: {dict(summary.counts)} in {summary.seconds:.1f} s; {summary.stopped_because}")
    if linger and not summary.counts.total():
        return None
    return {**_figures(summary), **describe()}


def cost_today(connection: Connection, *registry: str) -> dict[str, Any]:
    """Metadata of lanes that ask a provider; nothing where none was asked today."""
    cost = queue_cost_today(connection, *registry)
    if not cost.requests:
        return {}
    figures: dict[str, Any] = {
        "cost today, USD": float(cost.cost_usd),
        "requests today": cost.requests,
        "failed requests today": cost.failed_requests,
    }
    if cost.cost_usd_per_thousand_rows is not None:
        figures["cost per 1000 rows, USD"] = float(cost.cost_usd_per_thousand_rows)
    return figures


def describe_models(connection: Connection, modality: Modality) -> dict[str, Any]:
    """Metadata of a lane that models work in: the active one, and the shadow with its coverage where there is one."""
    described = {}
    for model, coverage in registered_models(connection):
        if model.modality == modality and coverage is not None:
            described[f"{model.status} model"] = model.name
            if model.status == "shadow":
                described["shadow coverage"] = f"{coverage.covered} of {coverage.rows} {coverage.what}"
    return described


def coverage(connection: Connection, queue: str) -> dict[str, Any]:
    (figures,) = named_rows(connection, f"{queue}_coverage")
    return figures


def accounted_for(pipeline: Pipeline, queue: str) -> dg.AssetCheckResult:
    """Whether whatever the lane owes has its row, waits or has failed."""
    with pipeline.connection() as connection:
        figures = coverage(connection, queue)
    return dg.AssetCheckResult(passed=figures["unaccounted"] == 0, metadata=figures)


def queue_check_result(pipeline: Pipeline, queue: str, *, anonymous: bool = False) -> dg.AssetCheckResult:
    """Warns of dead letters, items that failed for good, until a person retries or deletes them.

    `anonymous` names no item: what Dagster keeps, an erasure does not reach.
    """
    with pipeline.connection() as connection:
        status = client.status(connection, queue)
        newest = connection.execute(query("newest_failures"), {"queue": queue, "count": 5}).fetchall()
    header = ("what", "status", "because", "item")
    named = slice(1, 3) if anonymous else slice(None)
    reasons = markdown_table(header[named], [row[named] for row in newest])
    return dg.AssetCheckResult(
        passed=not status["failed"],
        severity=dg.AssetCheckSeverity.WARN,
        metadata={**status, "newest failures": dg.MetadataValue.md(reasons)},
        description=f"{status['failed']} failed: `matching-pipeline retry {queue} --all` tries them again"
        if status["failed"]
        else "no item has failed",
    )


def _figures(summary: Summary) -> dict[str, Any]:
    return {
        "completed": summary.completed,
        "failed attempts": summary.counts["failed"],
        "snoozed": summary.counts["snoozed"],
        "busy seconds": round(summary.busy_seconds, 3),
        **summary.figures,
    }
