"""How workers show an asset in the UI: materializations and check results, often after a pause, then rarely."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import dagster as dg
import psycopg

from matching_pipeline.components.checks import ReportedCheck, evaluation
from matching_pipeline.components.metadata import Metadata, figures, pauses, table_metadata
from matching_pipeline.components.resources import Pipeline
from matching_pipeline.errors import ConfigurationError, ProviderUnavailable
from matching_pipeline.handlers import registry
from matching_pipeline.logs import log_to_stderr
from matching_pipeline.queues.progress import Summary
from matching_pipeline.queues.standing import QueueWork

GAP_SECONDS = 10.0
"""The shortest time between two reports of an asset."""
STEADY_SECONDS = 600.0
"""The average time between two reports of an asset while its work never stops."""
BURST = 12
"""The most reports that follow each other soon after a pause."""
CHECKING_SHARE = 0.05
"""The checks of an asset take at most this share of the time, however large its tables are."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class AssetReport:
    """How workers report an asset that they keep fresh."""

    key: str
    detects: Mapping[str, str]
    """for each queue a text that says what its jobs do; each queue has a sensor"""
    describe: Callable[[Pipeline], Metadata]
    table: str
    """the table that has its rows, for the UI"""
    checks: Sequence[ReportedCheck]
    """those that are cheap enough to come with every report"""
    shadows: Sequence[str] = ()
    """the queues of models that are not active: the sensors of the main queues watch them too"""
    partition: Callable[[], str | None] = lambda: None
    """the partition of now"""

    @property
    def queues(self) -> Sequence[str]:
        return (*self.detects, *self.shadows)

    def materialization(self, pipeline: Pipeline, work: QueueWork | Summary) -> dg.AssetMaterialization:
        return dg.AssetMaterialization(self.key, partition=self.partition(), metadata=self.metadata(pipeline, work))

    def metadata(self, pipeline: Pipeline, work: QueueWork | Summary) -> dict[str, Any]:
        with pipeline.connection() as connection:
            described = {**table_metadata(connection, self.table), **pauses(connection, self.queues)}
        return {**figures(work), **described, **self.describe(pipeline)}

    def evaluations(self, pipeline: Pipeline) -> dict[str, dg.AssetCheckEvaluation]:
        """The result of each check now, by its name."""
        return {check.name: evaluation(check.key, check.evaluate(pipeline)) for check in self.checks}


@dataclass
class Pace:
    """Tokens: a report takes one, and one is earned every STEADY_SECONDS, up to BURST.

    An asset that was last reported long ago starts with all of them, whichever run reported it. So the first work
    after a pause is shown at once, and steady work every ten minutes.
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
                # a worker continues if only its report fails
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
            # after a failure too, so that a check that fails is not repeated each second
            taken = time.monotonic() - began
            self._next_check = time.monotonic() + max(GAP_SECONDS, taken / CHECKING_SHARE)
        self._unchecked = False
        if due:
            assert self._work is not None
            yield self._report.materialization(pipeline, self._work)
            self.mark_reported()
        for name, result in evaluations.items():
            if due or self._passed.get(name) != result.passed:
                self._passed[name] = result.passed
                # Dagster keeps one result of a check for each run, and the UI shows that of the newest run. So the
                # older of two workers would never be seen: results are reported without a run.
                self._instance.report_runless_asset_event(result)


def process_by_hand(
    context: dg.AssetExecutionContext, pipeline: Pipeline, report: AssetReport
) -> dg.MaterializeResult[None]:
    """Processes what is due in the queues of the asset, beside the standing worker. Awaits jobs that others do."""
    log_to_stderr(logging.INFO)
    total = Summary()
    with pipeline.connection() as connection:
        queues = [queue for queue in registry.in_use(connection, pipeline.declarations) if queue in report.queues]
    for queue in queues:
        try:
            done = registry.work_off(pipeline.settings, pipeline.database_url, pipeline.declarations, queue)
        except (ConfigurationError, ProviderUnavailable) as error:
            if not registry.is_shadow(queue):
                raise
            # no reader waits for the results of a shadow
            context.log.warning(f"{queue}: {error}")
            continue
        context.log.info(f"{queue}: {done.jobs} jobs, {done.failed} failed")
        if done.pause:
            context.log.warning(f"{queue} is {done.pause}: its jobs wait")
        total.add(done.summary)
    return dg.MaterializeResult(metadata=report.metadata(pipeline, total))
