"""The outcome of a job, by the states of the pictures that it asks for."""

from uuid import UUID

import pytest

from matching_pipeline.errors import PermanentFailure, TransientFailure
from matching_pipeline.pictures.orders import AskedPicture, Order, PictureState
from matching_pipeline.queues.client import Job

REFUSED, HICCUP = PermanentFailure("refused"), TransientFailure("hiccup")


def order(**pictures: PictureState | Exception) -> Order:
    """An order with the state of each picture, or the reason of its failure, by image type."""
    order = Order(Job(UUID(int=1), "studio_project", "complete_pack", "some key", {}, 1))
    for image_type, end in pictures.items():
        state, reason = (end, "locked") if isinstance(end, PictureState) else (PictureState.FAILED, end)
        order.pictures[image_type] = AskedPicture(order, image_type, "", None, state, reason, image_type)  # type: ignore[arg-type]
    return order


@pytest.mark.parametrize(
    "states", [{}, {"a": PictureState.KEPT, "b": PictureState.UNCHANGED}, {"a": PictureState.LOST, "b": REFUSED}]
)
def test_a_job_is_completed_where_all_is_there_or_the_job_is_lost(
    states: dict[str, PictureState | Exception],
) -> None:
    outcome = order(**states).outcome()
    assert (outcome.failure, outcome.must_wait) == (None, None)


def test_a_job_waits_where_nothing_has_failed_and_a_lock_is_busy() -> None:
    outcome = order(a=PictureState.KEPT, b=PictureState.LOCK_BUSY).outcome()
    assert (outcome.failure, str(outcome.must_wait)) == (None, "b: locked")


@pytest.mark.parametrize(
    ("states", "kind", "reason"),
    [
        ({"a": REFUSED, "b": REFUSED, "c": PictureState.KEPT}, PermanentFailure, "a: refused; b: refused"),
        ({"a": REFUSED, "b": HICCUP}, TransientFailure, "a: refused; b: hiccup"),
        ({"a": REFUSED, "b": PictureState.LOCK_BUSY}, TransientFailure, "a: refused"),
    ],
)
def test_a_failed_job_is_retried_where_a_retry_helps_one_picture(
    states: dict[str, PictureState | Exception], kind: type[Exception], reason: str
) -> None:
    failure = order(**states).outcome().failure
    assert (type(failure), str(failure)) == (kind, reason)


def test_the_photo_decides_for_the_pictures_that_wait_for_it_and_is_named_once() -> None:
    asked = order(a=PictureState.WAITING, b=PictureState.WAITING, c=PictureState.UNCHANGED)
    assert not asked.is_decided
    asked.settle(PictureState.FAILED, REFUSED)
    assert asked.is_decided
    assert str(asked.outcome().failure) == "photo: refused"
    assert asked.pictures["c"].state is PictureState.UNCHANGED
