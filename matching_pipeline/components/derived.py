"""The values that classes of the app's team compute."""

import dagster as dg

from matching_pipeline.components.checks import everything_is_accounted_for, no_failed_jobs
from matching_pipeline.components.embeddings import items_asset
from matching_pipeline.components.metadata import Metadata, coverage
from matching_pipeline.components.reporting import AssetReport
from matching_pipeline.components.resources import Pipeline
from matching_pipeline.sources.declarations import Declarations, Derived


def derived_asset(declared: Derived, declarations: Declarations) -> dg.AssetsDefinition:
    return items_asset(
        declared,
        declarations,
        derived_report(declared),
        group="derived",
        description=f"{', '.join(declared.columns)} of each item of {' and '.join(declared.sources)}, "
        f"by `{declared.handler}`.",
    )


def derived_report(declared: Derived) -> AssetReport:
    name, sources = declared.name, " and ".join(declared.sources)

    def describe(pipeline: Pipeline) -> Metadata:
        with pipeline.connection() as connection:
            covered = coverage(connection, name)
        return {**covered, "dagster/row_count": covered["covered"]}

    return AssetReport(
        name,
        detects={name: f"items of {sources} that have no current value"},
        describe=describe,
        table=f"matching_pipeline.derived_{name}",
        checks=(
            everything_is_accounted_for(
                name,
                "every_item_is_accounted_for",
                f"All items of {sources} have a current value, wait or failed for a stated reason.",
            ),
            no_failed_jobs(
                name,
                name,
                "no_failed_jobs",
                "No job has failed for good; one that has waits for a person to retry it.",
            ),
        ),
    )
