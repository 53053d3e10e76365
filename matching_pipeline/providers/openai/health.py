"""Whether a provider answers other requests, if one request failed for a reason that may be its own."""

import threading
import time
from collections import defaultdict
from collections.abc import Callable

from matching_pipeline.errors import ConfigurationError, JobFailure, ProviderUnavailable
from matching_pipeline.providers.openai.faults import Doubtful

NEVER = float("-inf")


class Health:
    """The health of each model of a client. Threads may share it: while one makes a probe, the others wait for its
    result."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._probing: dict[str, threading.Lock] = defaultdict(threading.Lock)
        self._passed: dict[str, float] = {}
        self._down: dict[str, tuple[float, Exception]] = {}

    def passed(self, model: str) -> None:
        """A request was answered, and the answer can be used."""
        self._passed[model] = time.monotonic()

    def require(self, model: str, since: float, doubt: Doubtful, probe: Callable[[], object]) -> None:
        """Returns if a request has passed since then, or the probe passes now.

        Otherwise raises the reason to call the provider down. `since` is a time of `time.monotonic`.
        """
        with self._lock:
            probing = self._probing[model]
        with probing:
            if self._passed.get(model, NEVER) >= since:
                return
            at, reason = self._down.get(model, (NEVER, doubt))
            if at < since:
                try:
                    probe()
                except (Doubtful, ProviderUnavailable, ConfigurationError, JobFailure) as error:
                    reason = _reason(error, doubt)
                    self._down[model] = time.monotonic(), reason
                else:
                    self.passed(model)
                    return
        raise reason from doubt


def _reason(error: Exception, doubt: Doubtful) -> Exception:
    match error:
        case Doubtful():
            return error.if_all_fail
        case JobFailure():
            return doubt.if_all_fail
    return error
