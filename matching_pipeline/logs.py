"""The log: standard `logging`, a line an event, on stderr. Dagster shows a run's stderr on the page of the run.

The records of the worker have `queue`, `source` and `job` as extra, for those who collect them.
"""

import logging
import sys

MARK = " matching_pipeline: "
"""In each line. By it `dev` finds the lines in Dagster's output, which holds those of all runs."""


def log_to_stderr(level: int) -> None:
    logger = logging.getLogger("matching_pipeline")
    logger.setLevel(level)
    if not any(isinstance(handler, _Stderr) for handler in logger.handlers):
        handler = _Stderr()
        handler.setFormatter(logging.Formatter(f"%(asctime)s %(levelname)s{MARK}%(message)s"))
        logger.addHandler(handler)


class _Stderr(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes to the present `sys.stderr`, as Dagster replaces it."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)
