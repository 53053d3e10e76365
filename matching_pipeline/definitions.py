"""What Dagster loads."""

import gc

import dagster as dg


def load() -> dg.Definitions:
    """All that is loaded stays. To look for garbage among it would take a sixth of the time."""
    gc.disable()
    try:
        from matching_pipeline.components.folder import definitions_in
        from matching_pipeline.settings import Settings
        from matching_pipeline.sources.documents import declarations_folder

        return dg.Definitions.merge(
            definitions_in(declarations_folder(Settings())),
            # a run is one process: its steps share loaded models and connections
            dg.Definitions(executor=dg.in_process_executor),
        )
    finally:
        gc.freeze()
        gc.enable()


defs = load()
