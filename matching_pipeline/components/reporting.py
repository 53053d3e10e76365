"""How workers show an asset in the UI: materializations and check results, often at first, then seldom."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import dagster as dg
import psycopg

from matching_pipeline.components.pictures import markdown_table
from matching_pipeline.components.resources import Pipeline
from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import named_rows, query
from matching_pipeline.errors import ConfigurationError, ProviderUnavailable
from matching_pipeline.handlers import registry
from matching_pipeline.models.registry import registered_models
from matching_pipeline.providers.call_log import queue_cost_today
from matching_pipeline.providers.factory import Modality
from matching_pipeline.queues import client
from matching_pipeline.queues.standing import QueueWork
from matching_pipeline.queues.worker import Summary

GAP_SECONDS = 10.0
"""Between two reports of an asset, at least."""
STEADY_SECONDS = 600.0
"""Between two reports of an asset under steady traffic, in the mean."""
BURST = 12
"""Reports that follow a pause before they become seldom."""
CHECKING_SHARE = 0.05
"""The checks of an asset take at most this share of the time, however large its tables are."""

Metadata = Mapping[str, Any]

log = logging.getLogger(__name__)


Evaluate = Callable[[Pipeline], dg.AssetCheckResult]


@dataclass(frozen=True)
class ReportedCheck:
    """An asset check, and the function behind it: Dagster makes an instance of its own to call a definition."""

    definition: dg.AssetChecksDefinition
    evaluate: Evaluate

    @property
    def key(self) -> dg.AssetCheckKey:
        return self.definition.check_key


def reported_check(*, asset: dg.AssetsDefinition | str, description: str) -> Callable[[Evaluate], ReportedCheck]:
    """Like `dg.asset_check`, of a function that workers call too."""

    def decorate(evaluate: Evaluate) -> ReportedCheck:
        return ReportedCheck(dg.asset_check(asset=asset, description=description)(evaluate), evaluate)

    return decorate


@dataclass(frozen=True)
class AssetReport:
    """How workers report an asset that they keep fresh."""

    key: str
    queues: Sequence[str]
    describe: Callable[[Pipeline], Metadata]
    checks: Sequence[ReportedCheck]
    """those that are cheap enough to come with every report"""
    partition: Callable[[], str | None] = lambda: None
    """the partition of now"""

    def materialization(self, pipeline: Pipeline, work: QueueWork | Summary) -> dg.AssetMaterialization:
        return dg.AssetMaterialization(
            self.key, partition=self.partition(), metadata={**figures(work), **self.describe(pipeline)}
        )

    def evaluations(self, pipeline: Pipeline) -> dict[str, dg.AssetCheckEvaluation]:
        """The result of each check now, by its name."""
        return {check.key.name: _evaluation(check.key, check.evaluate(pipeline)) for check in self.checks}


@dataclass
class Pace:
    """Tokens: a report takes one, and one is earned every STEADY_SECONDS, up to BURST.

    An asset that was last reported long ago starts with all of them, whichever run reported it. So the first work
    after a pause shows at once, and steady traffic every ten minutes.
    """

    last: float
    """when the asset was last reported, in seconds of the wall clock"""
    tokens: float = field(init=False)

    def __post_init__(self) -> None:
        self.tokens = min(BURST, (time.time() - self.last) / STEADY_SECONDS)
        self._earned = time.time()

    def allows(self) -> bool:
        now = time.time()
        self.tokens = min(BURST, self.tokens + (now - self._earned) / STEADY_SECONDS)
        self._earned = now
        return self.tokens >= 1 and now - self.last >= GAP_SECONDS

    def spend(self) -> None:
        self.tokens -= 1
        self.last = time.time()


class Reporter:
    """Collects the work of a worker and yields the events that are due."""

    def __init__(self, instance: dg.DagsterInstance, pipeline: Pipeline, reports: Sequence[AssetReport]) -> None:
        self._pipeline = pipeline
        self._assets = [_Reported(report, instance) for report in reports]

    def add(self, work: Mapping[str, QueueWork]) -> None:
        """Takes the work of each queue."""
        for asset in self._assets:
            asset.add(work)

    @property
    def is_due(self) -> bool:
        return any(asset.is_reported_now or asset.is_checked_now for asset in self._assets)

    def events(self, *, last: bool = False) -> Iterator[dg.AssetMaterialization]:
        """Yields the materializations that are due, and reports check results; with `last` all that is unreported."""
        for asset in self._assets:
            try:
                yield from asset.events(self._pipeline, last)
            except psycopg.OperationalError as error:
                log.warning("%s is reported later: %s", asset.key, error)
            except Exception:
                # a worker goes on where only its report fails
                log.exception("the report of %s failed", asset.key)
                asset.mark_reported()


class _Reported:
    def __init__(self, report: AssetReport, instance: dg.DagsterInstance) -> None:
        self._report = report
        self._instance = instance
        self.key = report.key
        event = instance.get_latest_materialization_event(dg.AssetKey(report.key))
        self._pace = Pace(event.timestamp if event else 0)
        self._work: QueueWork | None = None
        self._passed: dict[str, bool] = {}
        self._unchecked = False
        self._next_check = 0.0

    def add(self, work: Mapping[str, QueueWork]) -> None:
        for queue in self._report.queues:
            if queue in work:
                self._work = self._work or QueueWork()
                self._work.merge(work[queue])
                self._unchecked = True

    def mark_reported(self) -> None:
        """Clears the collected work and spends a token for it."""
        if self._work is not None:
            self._work = None
            self._pace.spend()

    @property
    def is_reported_now(self) -> bool:
        return self._work is not None and self._pace.allows() and time.monotonic() >= self._next_check

    @property
    def is_checked_now(self) -> bool:
        return self._unchecked and time.monotonic() >= self._next_check

    def events(self, pipeline: Pipeline, last: bool) -> Iterator[dg.AssetMaterialization]:
        due = self.is_reported_now or (last and self._work is not None)
        if not due and not self.is_checked_now:
            return
        began = time.monotonic()
        try:
            evaluations = self._report.evaluations(pipeline)
        finally:
            # also where it failed: it is not repeated each second
            taken = time.monotonic() - began
            self._next_check = time.monotonic() + max(GAP_SECONDS, taken / CHECKING_SHARE)
        self._unchecked = False
        if due:
            assert self._work is not None
            yield self._report.materialization(pipeline, self._work)
            self.mark_reported()
        for name, evaluation in evaluations.items():
            if due or self._passed.get(name) != evaluation.passed:
                self._passed[name] = evaluation.passed
                # Dagster keeps one result of a check for each run, and the UI shows the youngest run's: with two
                # workers the results of the older one would never show
                self._instance.report_runless_asset_event(evaluation)


def process_by_hand(
    context: dg.AssetExecutionContext, pipeline: Pipeline, report: AssetReport
) -> dg.MaterializeResult[None]:
    """Processes what is due in the asset's queues, beside the standing worker, and waits for what that has leased."""
    total = Summary()
    with pipeline.connection() as connection:
        queues = [queue for queue in registry.in_use(connection) if queue in report.queues]
    for queue in queues:
        try:
            done = registry.work_off(pipeline.settings, pipeline.database_url, queue)
        except (ConfigurationError, ProviderUnavailable) as error:
            if queue not in registry.SHADOWS:
                raise
            # no reader waits for a shadow
            context.log.warning(f"{queue}: {error}")
            continue
        context.log.info(f"{queue}: {done.jobs} jobs, {done.failed} failed")
        total.add(done.summary)
    return dg.MaterializeResult(metadata={**figures(total), **report.describe(pipeline)})


def figures(work: QueueWork | Summary) -> dict[str, Any]:
    return {
        "completed": work.counts["completed"],
        "failed attempts": work.counts["failed"],
        "snoozed": work.counts["snoozed"],
        "busy seconds": round(work.busy_seconds, 3),
        **work.figures,
    }


def cost_today(connection: Connection, *queues: str) -> dict[str, Any]:
    """Metadata of queues whose handler asks a provider; empty where it asked none today."""
    cost = queue_cost_today(connection, *queues)
    if not cost.requests:
        return {}
    costs: dict[str, Any] = {
        "cost today, USD": float(cost.cost_usd),
        "requests today": cost.requests,
        "failed requests today": cost.failed_requests,
    }
    if cost.cost_usd_per_thousand_rows is not None:
        costs["cost per 1000 rows, USD"] = float(cost.cost_usd_per_thousand_rows)
    return costs


def describe_models(connection: Connection, modality: Modality) -> dict[str, Any]:
    """Metadata of an asset that models work for: the active one, and the shadow with its coverage."""
    described = {}
    for model, coverage in registered_models(connection):
        if model.modality == modality and coverage is not None:
            described[f"{model.status} model"] = model.name
            if model.status == "shadow":
                described["shadow coverage"] = f"{coverage.covered} of {coverage.rows} {coverage.what}"
    return described


def coverage(connection: Connection, queue: str) -> dict[str, Any]:
    (row,) = named_rows(connection, registry.COVERAGE[queue])
    return row


def accounted_for(pipeline: Pipeline, queue: str) -> dg.AssetCheckResult:
    """Whether each entity of the queue has its row, waits or has failed."""
    with pipeline.connection() as connection:
        row = coverage(connection, queue)
    return dg.AssetCheckResult(passed=row["unaccounted"] == 0, metadata=row)


def queue_check_result(pipeline: Pipeline, queue: str, *, anonymous: bool = False) -> dg.AssetCheckResult:
    """Warns of dead letters: jobs that failed for good, until a person retries or deletes them.

    `anonymous` names no entity: an erasure does not reach the copies that Dagster keeps.
    """
    with pipeline.connection() as connection:
        status = client.status(connection, queue)
        newest = connection.execute(query("newest_failures"), {"queue": queue, "count": 5}).fetchall()
    header = ("what", "status", "because", "job")
    named = slice(1, 3) if anonymous else slice(None)
    reasons = markdown_table(header[named], [row[named] for row in newest])
    return dg.AssetCheckResult(
        passed=not status["failed"],
        severity=dg.AssetCheckSeverity.WARN,
        metadata={**status, "newest failures": dg.MetadataValue.md(reasons)},
        description=f"{status['failed']} failed: `matching-pipeline retry {queue} --all` tries them again"
        if status["failed"]
        else "no job has failed",
    )


def _evaluation(key: dg.AssetCheckKey, result: dg.AssetCheckResult) -> dg.AssetCheckEvaluation:
    return dg.AssetCheckEvaluation(
        asset_key=key.asset_key,
        check_name=key.name,
        passed=result.passed,
        metadata=result.metadata,
        severity=result.severity,
        description=result.description,
    )
