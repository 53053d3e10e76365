"""How many requests go at once, and when: waiting costs less than being refused."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

from matching_pipeline.providers.openai.faults import RateLimited, seconds_of

PATIENCE_SECONDS = 30.0
"""Who would wait longer gives up instead: the lane can wait without a process."""


@dataclass
class Bucket:
    """What a rate limit leaves, as its headers last said; it fills up evenly."""

    limit: float
    level: float
    per_second: float
    at: float

    def seconds_until(self, amount: float, now: float) -> float:
        """More than the limit is let through when the bucket is full: the provider decides."""
        missing = min(amount, self.limit) - self._level(now)
        if missing <= 0:
            return 0.0
        return missing / self.per_second if self.per_second else 0.0

    def take(self, amount: float, now: float) -> None:
        self.level, self.at = self._level(now) - amount, now

    def _level(self, now: float) -> float:
        return min(self.limit, self.level + (now - self.at) * self.per_second)


@dataclass
class Traffic:
    """What of one model is under way."""

    requests: float = 0
    tokens: float = 0


class Gate:
    """Shared by all requests of a provider's client; each model has limits of its own.

    Until an answer has stated the limits, `concurrency` alone holds.
    """

    def __init__(self, concurrency: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._free = concurrency
        self._clock = clock
        self._changed = threading.Condition()
        self._buckets: dict[tuple[str, str], Bucket] = {}
        self._traffic: dict[str, Traffic] = {}
        self._closed = False

    @contextmanager
    def passage(self, model: str, tokens: float) -> Iterator[None]:
        """Waits for a place. Raises RateLimited where the limits leave none for long."""
        needs = {"requests": 1.0, "tokens": tokens}
        with self._changed:
            while (seconds := self._wait(model, needs)) > 0 or self._free <= 0:
                # what ends meanwhile makes room, or tells of its limits: look again then
                self._changed.wait(seconds or None)
            self._move(model, needs, +1)
        try:
            yield
        finally:
            with self._changed:
                self._move(model, needs, -1)
                self._changed.notify_all()

    def learn(self, model: str, tokens: float, headers: Mapping[str, str]) -> None:
        """Takes over, within its passage, what a request was told of the limits.

        What else is under way may not be in it yet, and is taken off.
        """
        with self._changed:
            traffic = self._traffic[model]
            others = {"requests": traffic.requests - 1, "tokens": traffic.tokens - tokens}
            for what in ("requests", "tokens"):
                limit, left = (_number(headers.get(f"x-ratelimit-{name}-{what}")) for name in ("limit", "remaining"))
                reset = seconds_of(headers.get(f"x-ratelimit-reset-{what}", ""))
                if limit is None or left is None or reset is None or limit <= 0:
                    continue
                per_second = (limit - left) / reset if reset > 0 else limit
                self._buckets[model, what] = Bucket(limit, left - others[what], per_second, self._clock())
            self._changed.notify_all()

    def close(self) -> None:
        """Nobody waits any longer."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _wait(self, model: str, needs: Mapping[str, float]) -> float:
        if self._closed:
            raise RateLimited("the run ends", timedelta(0))
        now = self._clock()
        limits = [
            (self._buckets[model, what], need) for what, need in needs.items() if (model, what) in self._buckets
        ]
        seconds = max((bucket.seconds_until(need, now) for bucket, need in limits), default=0.0)
        if seconds > PATIENCE_SECONDS:
            raise RateLimited(
                f"the rate limit of {model} leaves nothing for {seconds:.0f} s", timedelta(seconds=seconds)
            )
        return seconds

    def _move(self, model: str, needs: Mapping[str, float], direction: int) -> None:
        traffic = self._traffic.setdefault(model, Traffic())
        traffic.requests += direction
        traffic.tokens += direction * needs["tokens"]
        self._free -= direction
        if direction > 0:
            for what, need in needs.items():
                if bucket := self._buckets.get((model, what)):
                    bucket.take(need, self._clock())


def _number(header: str | None) -> float | None:
    try:
        return float(header) if header is not None else None
    except ValueError:
        return None
