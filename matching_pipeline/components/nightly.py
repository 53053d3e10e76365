"""The job that processes each night what is missing, and rebuilds all matches."""

import dagster as dg

from matching_pipeline.components.placement import step_executor
from matching_pipeline.components.resources import RUN_TAGS
from matching_pipeline.settings import Settings
from matching_pipeline.sources.declarations import Declarations


def nightly(declarations: Declarations) -> dg.Definitions:
    """The job of all declared assets of embeddings and matches, and its schedule."""
    names = [each.name for each in (*declarations.of_items, *declarations.matches)]
    job = dg.define_asset_job(
        "nightly",
        selection=dg.AssetSelection.assets(*names),
        # the shards of the rebuild run beside each other
        executor_def=step_executor(Settings()),
        tags={**RUN_TAGS, "dagster/max_runtime": "21600"},
        description="Processes all pictures and texts that are missing, then rebuilds all matches.",
    )
    schedule = dg.build_schedule_from_partitioned_job(
        job, hour_of_day=Settings().nightly_hour_utc, default_status=dg.DefaultScheduleStatus.RUNNING
    )
    return dg.Definitions(jobs=[job], schedules=[schedule])
