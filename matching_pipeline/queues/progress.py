"""What workers tell each other: how much is done, and that they must stop."""

import threading
import time
from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Summary:
    """What one worker did so far."""

    counts: Counter[str] = field(default_factory=Counter)
    """completed, failed (also those that will be tried again), snoozed, lost (the lease had run out)"""
    figures: Counter[str] = field(default_factory=Counter)
    """what the handler's writes did, under its own names"""
    started: float = field(default_factory=time.monotonic)
    busy_seconds: float = 0.0
    """time spent on jobs, without waiting for them"""
    stopped_because: str = "nothing is due"

    def add(self, other: "Summary") -> None:
        """Adds what another worker did."""
        self.counts += other.counts
        self.figures += other.figures
        self.busy_seconds += other.busy_seconds

    @property
    def completed(self) -> int:
        return self.counts["completed"]

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started


class StopSignal:
    """Tells workers in other threads to stop, after their batch, or at once with its jobs released.

    A worker that waits for a notification sees the signal when `client.wake` is called.
    """

    def __init__(self, whole: "StopSignal | None" = None) -> None:
        """A signal for a part of the workers, which obeys that of the whole too."""
        self.after_batch = threading.Event()
        self.at_once = threading.Event()
        self._whole = whole

    def is_set(self) -> bool:
        return self.after_batch.is_set() or (self._whole is not None and self._whole.is_set())

    def is_set_at_once(self) -> bool:
        return self.at_once.is_set() or (self._whole is not None and self._whole.is_set_at_once())

    def set(self, *, at_once: bool = False) -> None:
        self.after_batch.set()
        if at_once:
            self.at_once.set()
