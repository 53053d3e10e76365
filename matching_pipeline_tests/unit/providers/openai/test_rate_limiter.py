"""The rate limiter: when a request may go."""

import threading
import time
from datetime import timedelta

import pytest

from matching_pipeline.providers.openai.faults import RateLimited
from matching_pipeline.providers.openai.rate_limiter import RateLimiter
from matching_pipeline.providers.openai.stated import pause, seconds_of


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def headers(limit: float, remaining: float, reset: str, what: str = "requests") -> dict[str, str]:
    stated = {"limit": limit, "remaining": remaining, "reset": reset}
    return {f"x-ratelimit-{name}-{what}": str(value) for name, value in stated.items()}


def learn(limiter: RateLimiter, told: dict[str, str], model: str = "m", tokens: float = 10) -> None:
    with limiter.admit(model, tokens):
        limiter.learn(model, tokens, told)


def passes(limiter: RateLimiter, model: str = "m", tokens: float = 10, within: float = 0.3) -> bool:
    done = threading.Event()

    def go() -> None:
        with limiter.admit(model, tokens):
            done.set()

    threading.Thread(target=go, daemon=True).start()
    return done.wait(within)


def test_before_limits_are_known_only_the_number_of_places_holds() -> None:
    limiter = RateLimiter(2)
    with limiter.admit("m", 1), limiter.admit("m", 1e9):
        assert not passes(limiter)
    assert passes(limiter)


def test_a_limit_that_is_used_up_is_waited_for_as_it_fills() -> None:
    clock = Clock()
    limiter = RateLimiter(4, clock)
    learn(limiter, headers(60, 0, "6s"))
    assert not passes(limiter, within=0.01)
    clock.now += 0.2
    assert passes(limiter)


def test_a_request_that_passes_takes_its_tokens() -> None:
    clock = Clock()
    limiter = RateLimiter(4, clock)
    learn(limiter, headers(1000, 100, "60s", "tokens"))
    assert passes(limiter, tokens=80)
    assert not passes(limiter, tokens=80, within=0.01)


def test_requests_under_way_are_taken_off_the_limits_that_a_server_states() -> None:
    limiter = RateLimiter(4, Clock())
    with limiter.admit("m", 10):
        learn(limiter, headers(60, 1, "6s"))
        assert not passes(limiter, within=0.01)


def test_each_model_has_its_own_limits() -> None:
    limiter = RateLimiter(4, Clock())
    learn(limiter, headers(60, 0, "6s"))
    assert passes(limiter, model="another")


def test_more_than_a_whole_limit_passes_when_it_is_full() -> None:
    limiter = RateLimiter(4, Clock())
    learn(limiter, headers(1000, 1000, "0s", "tokens"))
    assert passes(limiter, tokens=5000)


def test_a_long_wait_is_given_up_at_once() -> None:
    limiter = RateLimiter(4, Clock())
    learn(limiter, headers(10, 0, "1h0m0s"))
    with pytest.raises(RateLimited) as raised, limiter.admit("m", 1):
        pass
    assert raised.value.retry_after == timedelta(seconds=360)


def test_limits_without_meaning_are_ignored() -> None:
    limiter = RateLimiter(4, Clock())
    for told in (headers(-1, -1, "0"), headers(60, 0, "soon"), {"x-ratelimit-limit-requests": "many"}, {}):
        learn(limiter, told)
    assert passes(limiter)


def test_a_request_that_waits_is_let_go_when_the_run_ends() -> None:
    limiter = RateLimiter(1)
    failures: list[Exception] = []

    def wait() -> None:
        try:
            with limiter.admit("m", 1):
                pass
        except RateLimited as error:
            failures.append(error)

    with limiter.admit("m", 1):
        waiting = threading.Thread(target=wait)
        waiting.start()
        time.sleep(0.05)
        limiter.close()
        waiting.join(30)
    assert len(failures) == 1


@pytest.mark.parametrize(
    ("duration", "seconds"),
    [("1s", 1), ("6m0s", 360), ("12ms", 0.012), ("1h2m3.5s", 3723.5), ("59.7", 59.7), ("0", 0)],
)
def test_durations_are_read_as_providers_write_them(duration: str, seconds: float) -> None:
    assert seconds_of(duration) == pytest.approx(seconds)


@pytest.mark.parametrize("duration", ["", "soon", "-3", "1 s", "1d", "s"])
def test_other_texts_are_no_duration(duration: str) -> None:
    assert seconds_of(duration) is None


def test_the_longest_reset_of_what_is_used_up_counts() -> None:
    told = headers(10, 0, "5s") | headers(10, 0, "9s", "tokens")
    assert pause(told) == timedelta(seconds=9)
    assert pause(headers(10, 3, "5s")) == timedelta(seconds=20)
