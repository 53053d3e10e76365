"""A check on each source: its table and triggers are as they were attached. The worker looks once a minute."""

import logging
import time

import dagster as dg
import psycopg

from matching_pipeline.components.checks import ReportedCheck, evaluation
from matching_pipeline.components.resources import Pipeline
from matching_pipeline.components.sources import table_key
from matching_pipeline.sources.attached import source_states
from matching_pipeline.sources.declarations import Declarations
from matching_pipeline.sources.source import Source

LOOK_SECONDS = 60.0

log = logging.getLogger(__name__)


def is_attached(source: Source) -> ReportedCheck:
    """Whether the source's table exists, is attached as it is declared, and has its triggers."""

    def evaluate(pipeline: Pipeline) -> dg.AssetCheckResult:
        with pipeline.connection() as connection:
            state = next((each for each in source_states(connection) if each.name == source.name), None)
        if state is None:
            return dg.AssetCheckResult(passed=False, description="it is not attached: run `matching-pipeline attach`")
        counts = {"mirrored": state.mirrored, "unfinished jobs": state.unfinished, "failed jobs": state.failed}
        described = "; ".join(state.problems) or f"attached to {state.table}"
        return dg.AssetCheckResult(passed=not state.problems, metadata=counts, description=described)

    described = f"The table and triggers of the source {source.name} are as they were attached."
    return ReportedCheck(table_key(source.table), f"{source.name}_is_attached", described, evaluate)


class SourceWatch:
    """Reports the checks of all sources at first, and if one changes."""

    def __init__(self, instance: dg.DagsterInstance, pipeline: Pipeline, declarations: Declarations) -> None:
        self._instance = instance
        self._pipeline = pipeline
        self._checks = [is_attached(source) for source in declarations.sources]
        self._passed: dict[str, bool] = {}
        self._next_look = 0.0

    def look(self) -> None:
        """Looks once a minute, however often it is called."""
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + LOOK_SECONDS
        try:
            for check in self._checks:
                result = check.evaluate(self._pipeline)
                if self._passed.get(check.name) != result.passed:
                    self._instance.report_runless_asset_event(evaluation(check.key, result))
                    self._passed[check.name] = result.passed
        except psycopg.Error as error:
            log.warning("the sources are looked at later: %s", error)
