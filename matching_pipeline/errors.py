"""What can go wrong with one queue item, by kind; each kind has one policy in `drain`."""

from datetime import timedelta
from typing import ClassVar


class JobFailure(Exception):
    """This one item could not be done; `permanent` says whether trying again can help."""

    permanent: ClassVar[bool]


class PermanentFailure(JobFailure):
    """The item is failed at once, with the reason."""

    permanent = True


class TransientFailure(JobFailure):
    """The item is retried with back-off."""

    permanent = False


class ProviderUnavailable(Exception):
    """Nobody is charged for it; the lane is deferred."""

    def __init__(self, message: str, retry_after: timedelta) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ConfigurationError(Exception):
    """The run fails at once and says which setting."""


class RebuildSuperseded(Exception):
    """A newer rebuild of the kind has begun, which computes all that this one has left."""


class ModelSwitched(Exception):
    """What a drain was opened for is no more: nobody is charged, and it ends; the next is opened for what is now."""


def as_job_failure(error: BaseException) -> JobFailure:
    """What is no failure by kind is a surprise: it is charged, and tried again. What stops all is raised."""
    if isinstance(error, JobFailure):
        return error
    if isinstance(error, Exception) and not isinstance(error, (ConfigurationError, ProviderUnavailable)):
        return TransientFailure(f"{type(error).__name__}: {error}")
    raise error
