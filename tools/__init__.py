"""Programs for those who work on the pipeline; it does not need them to run."""
