"""The pictures that a job of a queue of generated images asks for: their states, and their rows in the database."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any
from uuid import UUID

from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import named_rows, query
from matching_pipeline.db.transactions import give_way
from matching_pipeline.errors import HostBusy, JobFailure, PermanentFailure, TransientFailure
from matching_pipeline.providers.protocols import GeneratedPicture
from matching_pipeline.queues.client import Job
from matching_pipeline.queues.handler import LockBusy, Outcome


class PictureState(Enum):
    """The state of one asked picture. None waits for its lock: it is LOCK_BUSY at once if another session holds
    it."""

    WAITING = "the entity's photo is not fetched yet"
    MAKING = "this session holds its lock, and a thread makes it or will make it"
    KEPT = "its file is stored and its row is written"
    UNCHANGED = "the picture that is there stays, or its entity is deleted"
    FAILED = "its reason is a JobFailure"
    LOCK_BUSY = "another worker makes it, or the app holds its rows"
    LOST = "the job's lease has run out or its entity is deleted, so the picture is dropped"
    STOPPED = "an error that concerns every picture came first"


NEXT = {
    PictureState.WAITING: {
        PictureState.MAKING,
        PictureState.UNCHANGED,
        PictureState.FAILED,
        PictureState.LOCK_BUSY,
        PictureState.STOPPED,
    },
    PictureState.MAKING: {
        PictureState.KEPT,
        PictureState.FAILED,
        PictureState.LOCK_BUSY,
        PictureState.LOST,
        PictureState.STOPPED,
    },
}
"""The other states are final."""


@dataclass(eq=False)
class AskedPicture:
    order: "Order" = field(repr=False)
    image_type: str
    prompt: str | None
    """None if the image type was deleted."""
    source_hash: bytes | None
    """The hash of the photo that the present picture shows, if the job may keep that picture."""
    state: PictureState
    reason: JobFailure | str = ""
    """Why it is FAILED or LOCK_BUSY; `culprit` is the image type or the photo."""
    culprit: str = ""

    def become(self, state: PictureState, reason: JobFailure | str = "", culprit: str = "") -> None:
        assert state in NEXT[self.state]
        self.state, self.reason, self.culprit = state, reason, culprit or self.image_type

    @property
    def key(self) -> dict[str, Any]:
        return {**self.order.key, "image_type": self.image_type}


@dataclass(eq=False)
class Order:
    """One job with the pictures that it asks for, by image type."""

    job: Job
    source_url: str = ""
    pictures: dict[str, AskedPicture] = field(default_factory=dict)

    @property
    def key(self) -> dict[str, Any]:
        """The parameters that name it in queries."""
        return {"job_id": self.job.id, "attempt": self.job.attempt, "source": self.job.source, "key": self.job.key}

    @property
    def forced_by(self) -> UUID | None:
        """The job's id, if the job asks for other pictures than those that are there."""
        return self.job.id if self.job.payload.get("force") else None

    def in_state(self, *states: PictureState) -> list[AskedPicture]:
        return [picture for picture in self.pictures.values() if picture.state in states]

    def settle(self, state: PictureState, reason: JobFailure | str = "") -> None:
        """Gives every WAITING picture the state that its photo decides."""
        for picture in self.in_state(PictureState.WAITING):
            picture.become(state, reason, "photo")

    @property
    def is_decided(self) -> bool:
        return not self.in_state(*NEXT)

    @property
    def is_complete(self) -> bool:
        return len(self.in_state(PictureState.KEPT, PictureState.UNCHANGED)) == len(self.pictures)

    def outcome(self) -> Outcome:
        """The outcome of a decided order without a STOPPED picture.

        A retry helps if it helps one of the pictures. A job with a LOST picture is completed like one without:
        the worker finds then that it no longer holds the job.
        """
        failed, busy = self.in_state(PictureState.FAILED), self.in_state(PictureState.LOCK_BUSY)
        if self.in_state(PictureState.LOST) or not failed + busy:
            return Outcome(self.job)
        if not failed:
            return Outcome(self.job, must_wait=LockBusy(_reasons(busy)))
        for picture in failed:
            if isinstance(picture.reason, HostBusy):
                return Outcome(self.job, must_wait=picture.reason)
        permanent = not busy and all(isinstance(picture.reason, PermanentFailure) for picture in failed)
        return Outcome(self.job, failure=(PermanentFailure if permanent else TransientFailure)(_reasons(failed)))


@dataclass(frozen=True)
class StoredPicture:
    """A picture whose file is written."""

    generated: GeneratedPicture
    url: str
    model: str
    source_hash: bytes


def read_orders(connection: Connection, jobs: Sequence[Job]) -> list[Order]:
    """The order of each job; it has no pictures if the job's entity is deleted."""
    orders = {job.id: Order(job) for job in jobs}
    for row in named_rows(connection, "asked_pictures", job_ids=list(orders)):
        order, image_type = orders[row["job_id"]], row["image_type"]
        order.source_url = row["source_url"] or ""
        state = PictureState.UNCHANGED if row["made"] else PictureState.WAITING
        order.pictures[image_type] = AskedPicture(order, image_type, row["prompt"], row["source_hash"], state)
    return list(orders.values())


def lock_picture(connection: Connection, picture: AskedPicture) -> bool:
    """Whether the lock was free. The session holds it until it unlocks the picture or ends."""
    return connection.execute(query("lock_picture"), picture.key).fetchone() == (True,)


def unlock_picture(connection: Connection, picture: AskedPicture) -> None:
    connection.execute(query("unlock_picture"), picture.key)


def is_missing(connection: Connection, picture: AskedPicture) -> bool:
    """Asked under its lock: another worker may have made it since the order was read, and the app may have deleted
    the entity."""
    return connection.execute(query("is_picture_made"), picture.key).fetchone() == (False,)


def keep_unchanged(connection: Connection, order: Order, source_hash: bytes) -> None:
    """Keeps the pictures that were made from the same photo at another URL. Raises one of GAVE_WAY."""
    if same := [picture for picture in order.in_state(PictureState.WAITING) if picture.source_hash == source_hash]:
        parameters = {**order.key, "source_url": order.source_url, "source_hash": source_hash}
        parameters["image_types"] = [picture.image_type for picture in same]
        give_way(connection, lambda: connection.execute(query("keep_unchanged_images"), parameters))
        for picture in same:
            picture.become(PictureState.UNCHANGED)


def save_picture(connection: Connection, picture: AskedPicture, stored: StoredPicture) -> bool:
    """Writes the row in a transaction of its own. False if the lease has run out or the entity is deleted.

    Raises one of GAVE_WAY.
    """
    parameters = picture.key | vars(stored.generated) | vars(stored)
    parameters |= {"bytes": len(stored.generated.data), "source_url": picture.order.source_url}
    row = give_way(connection, lambda: connection.execute(query("save_generated_image"), parameters).fetchone())
    return row == (True,)


def _reasons(pictures: Sequence[AskedPicture]) -> str:
    return "; ".join(dict.fromkeys(f"{picture.culprit}: {picture.reason}" for picture in pictures))
