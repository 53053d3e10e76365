"""Asset checks, which a run of the asset evaluates and workers report."""

from collections.abc import Callable
from dataclasses import dataclass

import dagster as dg

from matching_pipeline.components.metadata import coverage
from matching_pipeline.components.pictures import markdown_table
from matching_pipeline.components.resources import Pipeline
from matching_pipeline.db.queries import named_rows, query
from matching_pipeline.models.drift import Drift
from matching_pipeline.queues import client


@dataclass(frozen=True)
class ReportedCheck:
    """An asset check: Dagster runs its definition, and workers call the function behind it."""

    asset: str | dg.AssetKey
    name: str
    description: str
    evaluate: Callable[[Pipeline], dg.AssetCheckResult]

    @property
    def key(self) -> dg.AssetCheckKey:
        return dg.AssetCheckKey(dg.AssetKey.from_coercible(self.asset), self.name)

    @property
    def definition(self) -> dg.AssetChecksDefinition:
        @dg.asset_check(asset=self.asset, name=self.name, description=self.description)
        def check(pipeline: Pipeline) -> dg.AssetCheckResult:
            return self.evaluate(pipeline)

        return check


def everything_is_accounted_for(asset: str, name: str, description: str) -> ReportedCheck:
    """Whether each item that the queue `asset` is for has a result, waits or has failed."""

    def evaluate(pipeline: Pipeline) -> dg.AssetCheckResult:
        with pipeline.connection() as connection:
            row = coverage(connection, asset)
        return dg.AssetCheckResult(passed=row["unaccounted"] == 0, metadata=row)

    return ReportedCheck(asset, name, description, evaluate)


def no_failed_jobs(asset: str, queue: str, name: str, description: str, *, anonymous: bool = False) -> ReportedCheck:
    """Warns of dead letters: jobs that failed for good, until a person retries or deletes them.

    With `anonymous` it names no entity, because an erasure does not reach the copies that Dagster keeps.
    """

    def evaluate(pipeline: Pipeline) -> dg.AssetCheckResult:
        with pipeline.connection() as connection:
            status = client.status(connection, queue)
            newest = connection.execute(query("newest_failures"), {"queue": queue, "count": 5}).fetchall()
        header = ("what", "status", "because", "job")
        named = slice(1, 3) if anonymous else slice(None)
        reasons = markdown_table(header[named], [row[named] for row in newest])
        failed = status["failed"]
        return dg.AssetCheckResult(
            passed=not failed,
            severity=dg.AssetCheckSeverity.WARN,
            metadata={**status, "newest failures": dg.MetadataValue.md(reasons)},
            description=f"{failed} failed: `matching-pipeline retry {queue} --all` tries them again"
            if failed
            else "no job has failed",
        )

    return ReportedCheck(asset, name, description, evaluate)


def model_is_unchanged(queue: str) -> ReportedCheck:
    """Fails if a model of the queue gives its probes other vectors than it gave them first."""

    def evaluate(pipeline: Pipeline) -> dg.AssetCheckResult:
        with pipeline.connection() as connection:
            probes = named_rows(connection, "probes_of_queue", queue=queue)
        drifted = [str(Drift(**probe)) for probe in probes if probe["similarity"] < probe["least"]]
        return dg.AssetCheckResult(
            passed=not drifted,
            metadata={f"similarity of the {each['probe']}, {each['model']}": each["similarity"] for each in probes},
            description="; ".join(drifted) or ("the same vectors as at first" if probes else "not probed yet"),
        )

    described = "The models give a fixed text and a fixed picture the same vectors as at first. They are asked daily."
    return ReportedCheck(queue, "model_is_unchanged", described, evaluate)


def evaluation(key: dg.AssetCheckKey, result: dg.AssetCheckResult) -> dg.AssetCheckEvaluation:
    return dg.AssetCheckEvaluation(
        asset_key=key.asset_key,
        check_name=key.name,
        passed=result.passed,
        metadata=result.metadata,
        severity=result.severity,
        description=result.description,
    )
