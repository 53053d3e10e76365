"""What Dagster loads."""

import dagster as dg

from matching_pipeline.components.folder import definitions_in
from matching_pipeline.settings import Settings
from matching_pipeline.sources.documents import declarations_folder

defs = dg.Definitions.merge(
    definitions_in(declarations_folder(Settings())),
    # a run is one process: its steps share loaded models and connections
    dg.Definitions(executor=dg.in_process_executor),
)
