"""How many requests go at once, and when: waiting costs less than a refusal."""

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

from matching_pipeline.providers.openai.faults import RateLimited
from matching_pipeline.providers.openai.stated import seconds_of

PATIENCE_SECONDS = 30.0
"""A request that would wait longer is given up: the queue can wait without holding a process."""


@dataclass
class Bucket:
    """The rest of a rate limit, as its headers last stated it; it fills up evenly."""

    limit: float
    level: float
    per_second: float
    at: float

    def seconds_until(self, amount: float, now: float) -> float:
        """An amount above the limit passes when the bucket is full: the provider decides."""
        missing = min(amount, self.limit) - self._level(now)
        if missing <= 0:
            return 0.0
        return missing / self.per_second if self.per_second else 0.0

    def take(self, amount: float, now: float) -> None:
        self.level, self.at = self._level(now) - amount, now

    def _level(self, now: float) -> float:
        return min(self.limit, self.level + (now - self.at) * self.per_second)


class RateLimiter:
    """Shared by all requests of a client; each model has limits of its own.

    Until an answer has stated the limits, only `concurrency` limits the requests.
    """

    def __init__(self, concurrency: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._free = concurrency
        self._clock = clock
        self._changed = threading.Condition()
        self._buckets: dict[tuple[str, str], Bucket] = {}
        self._under_way: dict[tuple[str, str], float] = defaultdict(float)
        self._closed = False

    @contextmanager
    def admit(self, model: str, tokens: float) -> Iterator[None]:
        """Waits until the request may go. Raises RateLimited if the limits leave nothing for long."""
        needs = _needs(tokens)
        with self._changed:
            while (seconds := self._seconds(model, needs)) > 0 or self._free <= 0:
                # a request that ends meanwhile makes room, or states its limits: look again then
                self._changed.wait(seconds or None)
            self._move(model, needs, +1)
        try:
            yield
        finally:
            with self._changed:
                self._move(model, needs, -1)
                self._changed.notify_all()

    def learn(self, model: str, tokens: float, headers: Mapping[str, str]) -> None:
        """Takes over the limits that the answer to an admitted request states.

        The provider may not have counted the other requests that are under way: they are taken off.
        """
        with self._changed:
            for what, need in _needs(tokens).items():
                limit, left = (_number(headers.get(f"x-ratelimit-{name}-{what}")) for name in ("limit", "remaining"))
                reset = seconds_of(headers.get(f"x-ratelimit-reset-{what}", ""))
                if limit is None or left is None or reset is None or limit <= 0:
                    continue
                level = left - (self._under_way[model, what] - need)
                per_second = (limit - left) / reset if reset > 0 else limit
                self._buckets[model, what] = Bucket(limit, level, per_second, self._clock())
            self._changed.notify_all()

    def close(self) -> None:
        """Requests that wait raise RateLimited."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _seconds(self, model: str, needs: Mapping[str, float]) -> float:
        """How long until the model's limits allow the request."""
        if self._closed:
            raise RateLimited("the run ends", timedelta(0))
        now = self._clock()
        waits = [
            bucket.seconds_until(need, now)
            for what, need in needs.items()
            if (bucket := self._buckets.get((model, what)))
        ]
        seconds = max(waits, default=0.0)
        if seconds > PATIENCE_SECONDS:
            raise RateLimited(
                f"the rate limit of {model} leaves nothing for {seconds:.0f} s", timedelta(seconds=seconds)
            )
        return seconds

    def _move(self, model: str, needs: Mapping[str, float], direction: int) -> None:
        self._free -= direction
        for what, need in needs.items():
            self._under_way[model, what] += direction * need
            if direction > 0 and (bucket := self._buckets.get((model, what))):
                bucket.take(need, self._clock())


def _needs(tokens: float) -> dict[str, float]:
    return {"requests": 1.0, "tokens": tokens}


def _number(header: str | None) -> float | None:
    try:
        return float(header) if header is not None else None
    except ValueError:
        return None
