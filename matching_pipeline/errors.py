"""The kinds of errors. The worker has one policy for each (`matching_pipeline/queues/worker.py`)."""

from datetime import timedelta
from typing import ClassVar


class JobFailure(Exception):
    """This one job could not be done. If `permanent` is false, trying again can help."""

    permanent: ClassVar[bool]


class PermanentFailure(JobFailure):
    """The job fails at once, with the reason."""

    permanent = True


class TransientFailure(JobFailure):
    """The job is retried with back-off."""

    permanent = False


class HostBusy(TransientFailure):
    """The host of a picture asks to wait. The worker snoozes the job and counts no attempt."""

    def __init__(self, message: str, retry_after: timedelta) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ProviderUnavailable(Exception):
    """The worker snoozes the queue and counts no attempt."""

    def __init__(self, message: str, retry_after: timedelta) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ConfigurationError(Exception):
    """A person must act. The message names the setting; the worker stops the queue and counts no attempt."""


STOPS = (ProviderUnavailable, ConfigurationError)
"""They concern every request alike."""
Stop = ProviderUnavailable | ConfigurationError


class SourceUnreadable(Exception):
    """The declaration of a source does not fit its table. The worker snoozes its jobs and counts no attempt."""


class RebuildSuperseded(Exception):
    """A newer rebuild of the kind has begun and computes the shards that this one has left."""


class ModelSwitched(Exception):
    """Another model works for the queue now. The worker releases its jobs, and the handler is opened again."""


def as_job_failure(error: BaseException) -> JobFailure:
    """Any other exception becomes a transient failure. Errors that stop the whole queue are raised."""
    if isinstance(error, JobFailure):
        return error
    if isinstance(error, Exception) and not isinstance(error, STOPS):
        return TransientFailure(f"{type(error).__name__}: {error}")
    raise error
