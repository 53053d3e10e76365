"""How a batch ends that the handler has not finished."""

import random
from dataclasses import dataclass
from datetime import timedelta

import psycopg

from matching_pipeline.db.connections import Connection
from matching_pipeline.errors import ConfigurationError, ModelSwitched, ProviderUnavailable


@dataclass(frozen=True)
class Ending:
    """What the worker does with the jobs of a batch that the handler left unfinished, and with the error."""

    delay: timedelta = timedelta(0)
    reason: str | None = None
    snoozes_queue: bool = False
    """the queue's other jobs wait as long as these"""
    has_bug: bool = False
    """one of the jobs brings it out: they are claimed in ever smaller batches, and the last one fails"""
    reconnects: bool = False
    is_raised: bool = True


def ending_of(error: BaseException, session: Connection) -> Ending:
    """`session` is the one that the handler had."""
    match error:
        case ProviderUnavailable():
            delay = error.retry_after * random.uniform(1, 1.25)
            return Ending(delay, str(error), snoozes_queue=True)
        case psycopg.OperationalError() if session.closed:
            # the session that the handler read with was lost: its jobs are claimed again
            return Ending(reconnects=True, is_raised=False)
        case psycopg.OperationalError() | ConfigurationError() | ModelSwitched():
            return Ending()
        case Exception():
            return Ending(reason=f"{type(error).__name__}: {error}", has_bug=True)
        case _:  # the process is told to end
            return Ending()
