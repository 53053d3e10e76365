"""The product pictures that were asked for."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import dagster as dg
from pydantic import Field

from matching_pipeline.components.checks import ReportedCheck, everything_is_accounted_for, no_failed_jobs
from matching_pipeline.components.contact_sheet import contact_sheet
from matching_pipeline.components.metadata import Metadata, coverage
from matching_pipeline.components.pictures import markdown_table, picture
from matching_pipeline.components.reporting import AssetReport, process_by_hand
from matching_pipeline.components.resources import Pipeline
from matching_pipeline.components.sources import content_table
from matching_pipeline.db.queries import query
from matching_pipeline.errors import JobFailure, PermanentFailure
from matching_pipeline.handlers import registry
from matching_pipeline.pictures.fetch import ImageFetcher
from matching_pipeline.sources.declarations import Declarations, GeneratedImages
from matching_pipeline.sources.enqueue import enqueue_packs

SAMPLE = 20
"""Pictures whose files the check looks for."""
READS_AT_ONCE = 8


class PacksConfig(dg.Config):
    """What to queue before processing. By default nothing: pictures are made when they are asked for."""

    packs: list[str] = Field(default=[], description="the keys of entities for a complete pack")


def generated_asset(declared: GeneratedImages, declarations: Declarations) -> dg.AssetsDefinition:
    report = generated_report(declared)

    @dg.asset(
        name=declared.name,
        deps=[content_table(declarations.source(declared.source))],
        group_name="pictures",
        owners=declared.owners,
        kinds={"postgres", "python"},
        description=f"Product pictures made from the photo of each {declared.source}, one for each type in the "
        "table `image_types`. Materialize it to make the pictures that wait; list keys in the launchpad to "
        "ask for packs.",
    )
    def generated_images(
        context: dg.AssetExecutionContext, config: PacksConfig, pipeline: Pipeline
    ) -> dg.MaterializeResult[None]:
        with pipeline.connection() as connection:
            enqueue_packs(connection, declared.source, config.packs)
        return process_by_hand(context, pipeline, report)

    return generated_images


def generated_report(declared: GeneratedImages) -> AssetReport:
    name = declared.name
    return AssetReport(
        name,
        detects={name: "product pictures that were asked for"},
        describe=lambda pipeline: _describe(pipeline, name),
        table="matching_pipeline.generated_images",
        checks=(
            everything_is_accounted_for(
                name,
                "every_asked_picture_is_accounted_for",
                "Every picture that was asked for is there, waits in the queue, or failed for a stated reason.",
            ),
            _every_picture_has_its_file(name),
            no_failed_jobs(
                name,
                name,
                "no_failed_jobs",
                "No job has failed for good; one that has waits for a person to retry it.",
            ),
        ),
    )


def _describe(pipeline: Pipeline, queue: str) -> Metadata:
    with pipeline.connection() as connection:
        costs = connection.execute(query("generation_costs")).fetchall()
        newest = connection.execute(query("newest_pack")).fetchall()
        figures = coverage(connection, queue)
    table = markdown_table(("type", "pictures", "KB each", "cost in USD"), [_blank(row) for row in costs])
    described = {
        **figures,
        "dagster/row_count": figures["covered"],
        "cost in USD": float(sum(cost or 0 for *_, cost in costs)),
        "types": dg.MetadataValue.md(table),
    }
    if newest:
        tiles = list(zip([row[0] for row in newest], _read(pipeline, [row[1] for row in newest]), strict=True))
        sheet = contact_sheet([(label, data if isinstance(data, bytes) else b"") for label, data in tiles])
        project, model = newest[0][2:]
        described["newest pack"] = dg.MetadataValue.md(f"project `{project}`, by `{model}`\n\n{picture(sheet)}")
    return described


def _blank(row: tuple[Any, ...]) -> list[Any]:
    return ["" if cell is None else cell for cell in row]


def _read(pipeline: Pipeline, urls: list[str]) -> list[bytes | JobFailure]:
    """The files, which are read beside each other: the store may be an object store."""
    with (
        ImageFetcher(registry.fetch_limits(pipeline.settings)) as fetcher,
        ThreadPoolExecutor(READS_AT_ONCE) as pool,
    ):
        return list(pool.map(lambda url: _read_one(fetcher, url), urls))


def _read_one(fetcher: ImageFetcher, url: str) -> bytes | JobFailure:
    try:
        return fetcher.fetch(url)
    except JobFailure as failure:
        return failure


def _every_picture_has_its_file(asset: str) -> ReportedCheck:
    def evaluate(pipeline: Pipeline) -> dg.AssetCheckResult:
        with pipeline.connection() as connection:
            rows = connection.execute(query("some_generated_images"), {"count": SAMPLE}).fetchall()
        urls = [url for (url,) in rows]
        gone = [str(failure) for failure in _read(pipeline, urls) if isinstance(failure, PermanentFailure)]
        return dg.AssetCheckResult(
            passed=not gone,
            metadata={"looked at": len(urls), "gone": len(gone)},
            description="; ".join(gone) or "all are there",
        )

    description = f"No row names a file that is gone, on a sample of {SAMPLE} pictures."
    return ReportedCheck(asset, "every_picture_has_its_file", description, evaluate)
