"""When a standing worker is started, relieved or helped."""

from typing import Any

import pytest

from matching_pipeline.queues.client import QueueState
from matching_pipeline.queues.supervision import Request, WorkerPolicy, WorkerState, decide

POLICY = WorkerPolicy(version="new", max_age_seconds=3600, max_workers=2)
IDLE = {"images": QueueState(due=False, seconds_to_next=None, waiting=0, workers=1)}
OVERDUE = {"images": QueueState(due=True, seconds_to_next=-11, waiting=700, workers=1)}


def worker(id: int = 1, **changes: Any) -> WorkerState:
    """One that has served all queues for two minutes."""
    state: dict[str, Any] = {
        "version": "new",
        "helps": False,
        "run_id": "0123456789",
        "failures": {},
        "entered": True,
        "requested_seconds": 125.0,
        "age_seconds": 120.0,
        "alive": True,
    }
    return WorkerState(id=id, **{**state, **changes})


def asked_for(seconds: float) -> WorkerState:
    """A worker whose run has not started."""
    return worker(2, run_id=None, entered=False, requested_seconds=seconds, age_seconds=None, alive=False)


def test_without_a_worker_one_is_started_even_where_nothing_is_due() -> None:
    assert decide([], IDLE, POLICY) == Request(helps=False, because="no worker is alive")


def test_a_worker_whose_session_is_gone_counts_as_none() -> None:
    assert isinstance(decide([worker(alive=False)], IDLE, POLICY), Request)


def test_a_worker_that_serves_is_enough() -> None:
    assert decide([worker()], IDLE, POLICY) == "worker 1 in run 01234567 serves all queues since 120 s"


def test_a_worker_that_was_asked_for_has_a_minute_to_start() -> None:
    assert decide([asked_for(59)], IDLE, POLICY) == "worker 2 is starting"
    assert isinstance(decide([asked_for(61)], IDLE, POLICY), Request)


def test_a_worker_that_has_not_entered_is_starting_as_long_as_it_is_alive() -> None:
    slow = worker(2, entered=False, age_seconds=100.0)
    assert decide([worker(version="old"), slow], IDLE, POLICY) == "worker 2 in run 01234567 is starting"
    assert isinstance(decide([worker(2, entered=False, alive=False)], IDLE, POLICY), Request)


@pytest.mark.parametrize(
    ("changes", "because"),
    [
        ({"version": "old"}, "runs other code or settings"),
        ({"age_seconds": 3600.0}, "is 3600 s old"),
        ({"failures": {"faces": "KeyError: 1"}}, "failed in the queues faces"),
    ],
)
def test_a_worker_is_relieved(changes: dict[str, Any], because: str) -> None:
    decision = decide([worker(**changes)], IDLE, POLICY)
    assert decision == Request(helps=False, because=f"worker 1 in run 01234567 {because}")


def test_a_worker_that_failed_at_once_is_relieved_after_a_minute() -> None:
    failed = worker(age_seconds=59.0, failures={"faces": "KeyError: 1"})
    assert decide([failed], IDLE, POLICY) == "worker 1 in run 01234567 serves all queues since 59 s, failed in faces"


def test_a_worker_of_another_version_is_relieved_after_a_minute() -> None:
    assert isinstance(decide([worker(version="old", age_seconds=59.0)], IDLE, POLICY), str)


def test_a_worker_that_never_enters_counts_as_one_that_serves_after_three_minutes() -> None:
    stuck = worker(entered=False, requested_seconds=181.0, age_seconds=175.0, version="old")
    assert isinstance(decide([stuck], IDLE, POLICY), Request)


def test_a_worker_that_dies_as_it_starts_is_replaced_after_a_minute() -> None:
    dead = worker(entered=False, alive=False, requested_seconds=30.0, age_seconds=20.0)
    assert decide([dead], IDLE, POLICY) == "worker 1 in run 01234567 is starting"


def test_no_helper_is_started_for_a_queue_that_failed() -> None:
    failed = worker(age_seconds=30.0, failures={"images": "KeyError: 1"})
    assert isinstance(decide([failed], OVERDUE, POLICY), str)


def test_while_the_successor_is_there_the_old_worker_is_not_relieved_again() -> None:
    assert isinstance(decide([worker(1, version="old"), worker(2)], IDLE, POLICY), str)


def test_a_helper_is_started_for_jobs_that_are_overdue_up_to_the_limit() -> None:
    decision = decide([worker()], OVERDUE, POLICY)
    assert decision == Request(helps=True, because="jobs of images wait longer than 10 s")
    assert isinstance(decide([worker(), worker(2, helps=True)], OVERDUE, POLICY), str)


def test_a_worker_that_has_just_started_gets_its_chance_before_it_is_helped() -> None:
    assert isinstance(decide([worker(age_seconds=5.0)], OVERDUE, POLICY), str)


def test_a_helper_does_not_stand_in_for_the_worker() -> None:
    assert decide([worker(helps=True)], IDLE, POLICY) == Request(helps=False, because="no worker is alive")
