"""What Dagster loads."""

import dagster as dg

from matching_pipeline.components import (
    generated_images,
    image_ai,
    job_embeddings,
    maintenance,
    matches,
    sources,
    worker,
)
from matching_pipeline.components.parity import sampled_lists_are_exact
from matching_pipeline.components.resources import Pipeline
from matching_pipeline.components.sensors import queue_sensors, worker_sensor

defs = dg.Definitions(
    assets=[
        *sources.app_tables,
        image_ai.image_ai,
        job_embeddings.job_embeddings,
        matches.matches,
        generated_images.generated_images,
    ],
    asset_checks=[
        *(check.definition for report in worker.REPORTS for check in report.checks),
        sampled_lists_are_exact.definition,
    ],
    sensors=[worker_sensor, *queue_sensors.values()],
    jobs=[worker.worker, worker.process_now, matches.nightly, maintenance.cleanup],
    schedules=[matches.nightly_schedule, maintenance.cleanup_schedule],
    resources={"pipeline": Pipeline()},
    # a run is one process: its steps share what is warm
    executor=dg.in_process_executor,
)
