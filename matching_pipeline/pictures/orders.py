"""What is left to make for each item of the `generated_images` lane, and what the database is told of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from psycopg.rows import dict_row

from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import query
from matching_pipeline.db.transactions import give_way
from matching_pipeline.errors import JobFailure, PermanentFailure, TransientFailure
from matching_pipeline.providers.protocols import GeneratedPicture
from matching_pipeline.queues.client import Job
from matching_pipeline.queues.worker import LockBusy, Outcome


@dataclass(eq=False)
class Order:
    """One item: the pictures that it asks for and that are not there yet, and what became of them."""

    job: Job
    source_url: str
    prompts: dict[str, str | None]
    """by image type; None where the type is gone"""
    source_hashes: Mapping[str, bytes]
    """of the pictures that may be kept, if what the new URL shows is the old photo"""
    failures: dict[str, JobFailure] = field(default_factory=dict)
    waits: dict[str, str] = field(default_factory=dict)
    """why, by image type, where it is not for us to make or to write now: nobody is charged"""
    ended: bool = False
    """its lease is lost or its project gone: nothing more is made for it"""

    @property
    def project_id(self) -> UUID:
        return self.job.entity_id

    @property
    def anew(self) -> UUID | None:
        """The job, where it is forced."""
        return self.job.id if self.job.payload.get("force") else None

    def outcome(self) -> Outcome:
        if self.waits and not self.failures:
            return Outcome(self.job, lock_busy=LockBusy(_listed(self.waits)))
        if not self.failures:
            return Outcome(self.job)
        reason = _listed(self.failures)
        # trying again can help as long as it can for one of them
        hopeless = all(failure.permanent for failure in self.failures.values()) and not self.waits
        return Outcome(self.job, failure=PermanentFailure(reason) if hopeless else TransientFailure(reason))


def read_orders(connection: Connection, jobs: Sequence[Job]) -> list[Order]:
    """The orders of the items whose project still is there."""
    with connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(query("asked_images"), {"job_ids": [job.id for job in jobs]}).fetchall()
    orders = []
    for job in jobs:
        asked = [row for row in rows if row["job_id"] == job.id]
        if asked:
            missing = [row for row in asked if not row["made"]]
            prompts = {row["image_type"]: row["prompt"] for row in missing}
            hashes = {row["image_type"]: row["source_hash"] for row in missing if row["source_hash"]}
            orders.append(Order(job, asked[0]["source_url"] or "", prompts, hashes))
    return orders


def take_picture(connection: Connection, order: Order, image_type: str) -> bool:
    """Whether the picture is ours to make, until this session releases it or ends: nobody else is at it."""
    row = connection.execute(query("take_picture"), _key(order, image_type)).fetchone()
    return row == (True,)


def release_picture(connection: Connection, order: Order, image_type: str) -> None:
    connection.execute(query("release_picture"), _key(order, image_type))


def is_wanted(connection: Connection, order: Order, image_type: str) -> bool:
    """Asked once the picture is taken: since the order was read, whoever had it before may have made it, or the
    project may be gone."""
    row = connection.execute(query("is_made"), {"job_id": order.job.id, "image_type": image_type}).fetchone()
    return row == (False,)


def keep_unchanged(connection: Connection, order: Order, content_hash: bytes) -> None:
    """What was made from the same photo by its former URL need not be made again."""
    unchanged = [image_type for image_type, known in order.source_hashes.items() if known == content_hash]
    if unchanged:
        parameters = {"project_id": order.project_id, "image_types": unchanged, **_lease(order)}
        parameters |= {"source_url": order.source_url, "source_hash": content_hash}
        give_way(connection, lambda: connection.execute(query("keep_generated_images"), parameters))
        for image_type in unchanged:
            del order.prompts[image_type]


def save_picture(
    connection: Connection,
    order: Order,
    image_type: str,
    picture: GeneratedPicture,
    *,
    url: str,
    model: str,
    source_hash: bytes,
) -> bool:
    """Writes the row, in a transaction of its own; False where the lease is lost or the project gone."""
    parameters = {
        **_lease(order),
        "image_type": image_type,
        "url": url,
        "width": picture.width,
        "height": picture.height,
        "media_type": picture.media_type,
        "bytes": len(picture.data),
        "model": model,
        "source_url": order.source_url,
        "source_hash": source_hash,
        "cost_usd": picture.cost_usd,
    }
    row = give_way(connection, lambda: connection.execute(query("save_generated_image"), parameters).fetchone())
    return row == (True,)


def _listed(reasons: Mapping[str, object]) -> str:
    return "; ".join(f"{what}: {reason}" for what, reason in reasons.items())


def _lease(order: Order) -> dict[str, object]:
    return {"job_id": order.job.id, "attempt": order.job.attempt}


def _key(order: Order, image_type: str) -> dict[str, object]:
    return {"project_id": order.project_id, "image_type": image_type}
