"""The loop over futures: results, failures, and an error that stops all."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from threading import Event
from typing import Any

import pytest

from matching_pipeline.errors import ConfigurationError, PermanentFailure, ProviderUnavailable
from matching_pipeline.queues.futures import Futures


@pytest.fixture
def submit() -> Iterator[Callable[..., Future[Any]]]:
    with ThreadPoolExecutor(2) as threads:
        yield threads.submit


def fail(error: Exception) -> None:
    raise error


def test_each_waiter_has_the_result_or_the_failure(submit: Callable[..., Future[Any]]) -> None:
    running: Futures[str] = Futures()
    shared, refusal = submit(int, "7"), PermanentFailure("refused")
    for waiter, future in {
        "one": shared, "other": shared, "refused": submit(fail, refusal), "broken": submit(int, "x"),
    }.items():  # fmt: skip
        running.add(future, waiter)
    results = dict(pair for ended in running.ended(5) for pair in ended)
    assert (results["one"], results["other"], results["refused"]) == (7, 7, refusal)
    assert str(results["broken"]).startswith("ValueError: ")
    assert not running


def test_nothing_ends_within_the_patience(submit: Callable[..., Future[Any]]) -> None:
    running: Futures[str] = Futures()
    go_on = Event()
    running.add(submit(go_on.wait, 20), "slow")
    ended = running.ended(0.01)
    assert next(ended) == []
    go_on.set()
    assert [pair for pairs in ended for pair in pairs] == [("slow", True)]


@pytest.mark.parametrize("error", [ProviderUnavailable("down", timedelta(0)), ConfigurationError("wrong key")])
def test_a_stop_is_raised_after_what_is_paid_for_has_ended(
    submit: Callable[..., Future[Any]], error: Exception
) -> None:
    running: Futures[str] = Futures()
    go_on, hang = Event(), Event()
    running.add(submit(go_on.wait, 20), "under way")
    running.add(submit(fail, error), "stopped")
    running.add(submit(hang.wait, 20), "free", paid=False)
    running.add(submit(int, "7"), "not begun")
    ended = running.ended(5)
    results = dict(next(ended))
    assert running.stopped
    go_on.set()
    results |= dict(next(ended))
    with pytest.raises(type(error)):
        next(ended)
    assert results == {"stopped": None, "free": None, "not begun": None, "under way": True}
    hang.set()


def test_only_what_has_not_begun_can_be_cancelled(submit: Callable[..., Future[Any]]) -> None:
    running: Futures[str] = Futures()
    go_on = Event()
    for waiter in ("one", "two", "three"):
        running.add(submit(go_on.wait, 20), waiter)
    assert [running.cancel(waiter) for waiter in ("one", "three", "three")] == [False, True, False]
    go_on.set()
    assert sorted(pair for pairs in running.ended(5) for pair in pairs) == [("one", True), ("two", True)]
