"""What Dagster loads: everything in `defs`."""

import dagster as dg

from matching_pipeline import components as package
from matching_pipeline.components import generated_images, image_ai, job_embeddings, maintenance, matches, sources
from matching_pipeline.components.resources import Pipeline

defs = dg.Definitions(
    assets=[
        *sources.app_tables,
        image_ai.image_ai,
        job_embeddings.job_embeddings,
        matches.matches,
        generated_images.generated_images,
    ],
    asset_checks=dg.load_asset_checks_from_package_module(package),
    sensors=[
        image_ai.image_ai_sensor,
        image_ai.image_ai_shadow_sensor,
        job_embeddings.job_embeddings_sensor,
        job_embeddings.job_embeddings_shadow_sensor,
        matches.matches_sensor,
        matches.faces_sensor,
        generated_images.generated_images_sensor,
    ],
    jobs=[matches.nightly, maintenance.cleanup],
    schedules=[matches.nightly_schedule, maintenance.cleanup_schedule],
    resources={"pipeline": Pipeline()},
    # a run is one process: its steps share what is warm
    executor=dg.in_process_executor,
)
