"""How often an asset is reported: at once after a pause, seldom under steady traffic."""

import time

import pytest

from matching_pipeline.components.reporting import BURST, GAP_SECONDS, STEADY_SECONDS, Pace


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "time", clock.time)
    return clock


def reports(pace: Pace, clock: Clock, seconds: float, every: float) -> int:
    """How many reports follow, where work comes `every` so many seconds and is looked at each second."""
    made, waiting, next_work = 0, False, 0.0
    for second in range(int(seconds)):
        clock.now += 1
        if second >= next_work:
            waiting, next_work = True, second + every
        if waiting and pace.allows():
            pace.spend()
            made, waiting = made + 1, False
    return made


def test_the_first_work_ever_is_reported_at_once(clock: Clock) -> None:
    assert Pace(0).allows()


def test_the_first_work_after_a_pause_is_reported_at_once(clock: Clock) -> None:
    pace = Pace(0)
    reports(pace, clock, 6 * 3600, every=1)
    assert pace.tokens < 1
    clock.now += STEADY_SECONDS
    assert pace.allows()


def test_two_reports_are_some_seconds_apart(clock: Clock) -> None:
    pace = Pace(0)
    assert reports(pace, clock, 2 * GAP_SECONDS, every=1) <= 3


@pytest.mark.parametrize("every", [1, 60, 121, 300])
def test_a_day_of_steady_traffic_is_reported_about_every_ten_minutes(clock: Clock, every: float) -> None:
    pace = Pace(0)
    assert reports(pace, clock, 86_400, every) <= 86_400 / STEADY_SECONDS + BURST


def test_a_worker_that_relieves_another_goes_on_at_its_pace(clock: Clock) -> None:
    pace = Pace(0)
    reports(pace, clock, 6 * 3600, every=1)
    assert not Pace(pace.last).allows()


def test_four_assets_under_steady_traffic_write_fewer_than_5000_rows_a_day(clock: Clock) -> None:
    rows_a_report, assets, hand_overs = 4, 4, 24 * 20
    reported = reports(Pace(0), clock, 86_400, every=1)
    assert reported * rows_a_report * assets + hand_overs < 5000
