"""The hosts that pictures come from: a few requests at a time each, and none while a host asks to wait."""

import math
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import urlsplit

import anyio

from matching_pipeline.errors import HostBusy

WAIT_SECONDS: Final = 30.0
"""For a host that answers 429 and does not say how long to wait."""
LONGEST_WAIT_SECONDS: Final = 24 * 3600.0
FURTHEST_PLACE_SECONDS: Final = 3600.0
"""Jobs wait at most this much longer than the host asked for, as it may become faster."""
STEP_SECONDS: Final = 30.0


@dataclass
class _Host:
    turns: anyio.Semaphore
    since: float = field(default_factory=lambda: time.monotonic())
    """when its requests since the last wait began"""
    answered: int = 0
    """requests since then"""
    refusals: int = 0
    """one after the other, without an answer between them"""
    until: float = 0.0
    """the end of its wait"""
    seconds_a_request: float = 0.0
    """as it answered before the wait"""
    next_place: float = 0.0
    """when the next job that is put off is due"""


class Hosts:
    """The hosts of the pictures, for the tasks of one event loop.

    While a host waits, its jobs are put off by as much as the host took for as many before. So they come due as
    fast as the host takes them, and do not crowd the queue again and again.
    """

    def __init__(self, requests_at_once: int) -> None:
        self._requests_at_once = requests_at_once
        self._hosts: dict[str, _Host] = {}

    @asynccontextmanager
    async def turn(self, name: str) -> AsyncIterator[None]:
        """Waits until the host has fewer requests than allowed. Raises HostBusy if the host asked to wait."""
        async with self._host(name).turns:
            self.refuse_busy(name)
            yield

    def refuse_busy(self, name: str) -> None:
        host = self._host(name)
        if time.monotonic() < host.until:
            raise HostBusy(f"{name} asks to wait", self._place(host))

    def note_answer(self, name: str) -> None:
        host = self._host(name)
        host.answered += 1
        host.refusals = 0

    def note_refusal(self, name: str, retry_after: str | None) -> timedelta:
        """Keeps how long the host asks to wait. Returns when the job of this request must be tried again."""
        host, now = self._host(name), time.monotonic()
        if now >= host.until:
            host.refusals += 1
            wait = _seconds(retry_after) * 2 ** min(host.refusals - 1, 10)
            host.until = now + min(wait, LONGEST_WAIT_SECONDS)
            host.seconds_a_request = (host.until - host.since) / host.answered if host.answered else 0
            host.since, host.answered = host.until, 0
        return self._place(host)

    def _place(self, host: _Host) -> timedelta:
        now = time.monotonic()
        host.next_place = max(host.next_place, host.until)
        if host.next_place > host.until + FURTHEST_PLACE_SECONDS:
            place = host.until + FURTHEST_PLACE_SECONDS * random.uniform(0.5, 1)
        else:
            place = host.next_place
            host.next_place += host.seconds_a_request
        # in steps, so that the worker snoozes many jobs at once
        return timedelta(seconds=math.ceil(place - now + -(place - host.until) % STEP_SECONDS))

    def _host(self, name: str) -> _Host:
        if name not in self._hosts:
            self._hosts[name] = _Host(anyio.Semaphore(self._requests_at_once))
        return self._hosts[name]


def host_of(url: str) -> str:
    """The host and port of a web URL, or the bucket of an object. Empty if the picture is on this machine."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    place = parts.netloc.rpartition("@")[2].lower()
    return "" if parts.scheme == "file" else place if parts.scheme in ("http", "https") else f"{parts.scheme}:{place}"


def _seconds(retry_after: str | None) -> float:
    """How long to wait by a header Retry-After, which is a number or a date."""
    try:
        return max(float(retry_after or ""), 1)
    except ValueError:
        pass
    try:
        return max((parsedate_to_datetime(retry_after or "") - datetime.now(UTC)).total_seconds(), 1)
    except (ValueError, TypeError):
        return WAIT_SECONDS
