"""A host that asks to wait is left alone, and other hosts are not."""

import time
from collections.abc import Iterator
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from matching_pipeline.errors import HostBusy, PermanentFailure, TransientFailure
from matching_pipeline.pictures.fetch import FetchLimits, ImageFetcher
from matching_pipeline.pictures.hosts import Hosts
from matching_pipeline.pictures.web import Content
from matching_pipeline_tests.unit.pictures.conftest import Server


@pytest.fixture
def fetcher() -> Iterator[ImageFetcher]:
    with ImageFetcher(FetchLimits(timeout_seconds=3, allow_private_hosts=True, host_concurrency=2)) as fetcher:
        yield fetcher


def elsewhere(server: Server) -> str:
    """The same server by the name of another host."""
    return f"http://localhost:{server.server_port}"


@pytest.mark.parametrize("status", [429, 503])
def test_a_host_that_asks_to_wait_is_asked_no_more_and_others_are(
    fetcher: ImageFetcher, server: Server, picture_bytes: bytes, status: int
) -> None:
    server.retry_after = "40"
    for _ in range(3):
        with pytest.raises(HostBusy) as caught:
            fetcher.fetch(f"{server.url}/limited/{status}")
        assert 38 < caught.value.retry_after.total_seconds() <= 40
        assert f"127.0.0.1:{server.server_port}" in str(caught.value)
    assert len(server.requests) == 1
    assert fetcher.fetch(f"{elsewhere(server)}/picture") == picture_bytes


def test_a_date_says_how_long_to_wait(fetcher: ImageFetcher, server: Server) -> None:
    server.retry_after = format_datetime(datetime.now(UTC) + timedelta(minutes=5), usegmt=True)
    with pytest.raises(HostBusy) as caught:
        fetcher.fetch(f"{server.url}/limited")
    assert 290 < caught.value.retry_after.total_seconds() <= 300


@pytest.mark.parametrize("said", ["", "soon", "-5"])
def test_a_host_that_does_not_say_how_long_is_asked_again_later(
    fetcher: ImageFetcher, server: Server, said: str
) -> None:
    server.retry_after = said
    with pytest.raises(HostBusy) as caught:
        fetcher.fetch(f"{server.url}/limited")
    assert 0 < caught.value.retry_after.total_seconds() <= 30


def test_a_503_that_does_not_ask_to_wait_is_a_failure_of_this_picture(fetcher: ImageFetcher, server: Server) -> None:
    with pytest.raises(TransientFailure) as caught:
        fetcher.fetch(f"{server.url}/status/503")
    assert not isinstance(caught.value, HostBusy)
    with pytest.raises(PermanentFailure):
        fetcher.fetch(f"{server.url}/status/404")


def test_a_redirect_to_a_host_that_asked_to_wait_is_not_followed(fetcher: ImageFetcher, server: Server) -> None:
    server.retry_after = "40"
    with pytest.raises(HostBusy):
        fetcher.fetch(f"{server.url}/limited")
    with pytest.raises(HostBusy):
        fetcher.fetch(f"{elsewhere(server)}/redirect/{server.url}/limited")
    assert [path for path, _ in server.requests].count("/limited") == 1


def test_a_host_has_few_requests_at_a_time_and_does_not_take_the_places_of_others(
    fetcher: ImageFetcher, server: Server, picture_bytes: bytes
) -> None:
    slow: list[Future[Content]] = [fetcher.submit(f"{server.url}/drip/body") for _ in range(20)]
    began = time.monotonic()
    for _ in range(5):
        assert fetcher.fetch(f"{elsewhere(server)}/picture") == picture_bytes
    assert time.monotonic() - began < 2
    assert [path for path, _ in server.requests].count("/drip/body") <= 2
    for future in slow:
        future.cancel()


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def put_off(hosts: Hosts) -> float:
    with pytest.raises(HostBusy) as caught:
        hosts.refuse_busy("cdn.example")
    return caught.value.retry_after.total_seconds()


def test_jobs_are_put_off_as_fast_as_the_host_took_them(clock: Clock) -> None:
    hosts = Hosts(2)
    for _ in range(10):
        hosts.note_answer("cdn.example")
    clock.now += 12
    assert hosts.note_refusal("cdn.example", "48").total_seconds() == 48
    # ten answers in a minute
    assert [put_off(hosts) for _ in range(3)] == [78, 78, 78]
    clock.now += 48
    hosts.refuse_busy("cdn.example")
    hosts.refuse_busy("other.example")


def test_jobs_are_not_put_off_for_days(clock: Clock) -> None:
    hosts = Hosts(2)
    hosts.note_answer("cdn.example")
    hosts.note_refusal("cdn.example", "600")
    assert max(put_off(hosts) for _ in range(100)) <= 600 + 3600 + 600


def test_a_host_that_answers_nothing_between_two_refusals_is_asked_ever_more_seldom(clock: Clock) -> None:
    hosts = Hosts(2)
    waits = []
    for _ in range(4):
        waits.append(hosts.note_refusal("cdn.example", "10").total_seconds())
        clock.now += waits[-1]
    assert waits == [10, 20, 40, 80]
