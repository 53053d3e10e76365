"""Whether lists of `matches` are what the definition says, computed the other way: of some, exactly."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import query
from matching_pipeline.db.transactions import snapshot
from matching_pipeline.handlers import faces
from matching_pipeline.handlers import matches as matching
from matching_pipeline.matches.kernel.attributes import attribute_tokens
from matching_pipeline.matches.kernel.lists import Lists, Pair
from matching_pipeline.matches.kernel.reference import Image, best_lists
from matching_pipeline.matches.match_table import match_policy

PART_IMAGES = 4096
"""Read and scored at once, which bounds memory."""
SAME_SCORE = 1e-6
QUEUES = {matching.KIND: matching.QUEUE, faces.KIND: faces.QUEUE}
"""By kind, where the work waits that changes its lists."""

Standing = dict[UUID, dict[UUID, tuple[int, Pair]]]
"""By owner, its list as `matches` has it: each other with its rank."""


@dataclass
class Parity:
    """Lists that were looked at, and the pairs in which they differ from what they should be."""

    sampled: int = 0
    equal: int = 0
    missing: int = 0
    stale: int = 0
    """pairs that should stand with another rank, evidence or similarity"""
    surplus: int = 0
    waiting: int = 0
    """pieces of work in the queue at that instant, which may explain what differs"""

    @property
    def holds(self) -> bool | None:
        """None where it cannot be told: queued work may yet change what differs."""
        return True if self.equal == self.sampled else None if self.waiting else False


def sampled_parity(connection: Connection, kind: str, count: int, seed: int) -> Parity:
    """Looks at so many lists of the kind, for the same seed at the same ones, all as of one instant."""
    with snapshot(connection):
        owners = [owner for (owner,) in connection.execute(query(f"sampled_{kind}s"), {"count": count, "seed": seed})]
        parity = compared(expected_lists(connection, kind, owners), standing_lists(connection, kind, owners))
        row = connection.execute(query("unfinished_work"), {"queue": QUEUES[kind]}).fetchone()
        parity.waiting = row[0] if row else 0
        return parity


def expected_lists(connection: Connection, kind: str, owners: Collection[UUID]) -> Lists:
    """The owners' lists by the definition, in the caller's transaction."""
    lists: Lists = {owner: [] for owner in owners}
    policy = match_policy(connection, kind)
    if kind == matching.KIND:
        projects = _images(connection, "defining_project_images", ids=list(owners))
        return lists | best_lists(list(projects), _parts(connection, "defining_product_images"), policy)
    for face in _images(connection, "defining_faces", ids=list(owners)):
        lists |= best_lists([face], _parts(connection, "defining_candidates", id=face.id), policy)
    return lists


def standing_lists(connection: Connection, kind: str, owners: Collection[UUID]) -> Standing:
    standing: Standing = defaultdict(dict)
    for owner, other, *proof, rank in connection.execute(query(f"standing_{kind}_lists"), {"ids": list(owners)}):
        standing[owner][other] = (rank, Pair(other, *proof))
    return standing


def compared(expected: Lists, standing: Standing) -> Parity:
    parity = Parity(sampled=len(expected))
    for owner, entries in expected.items():
        found = standing.get(owner, {})
        wanted = {entry.right: (rank, entry) for rank, entry in enumerate(entries, start=1)}
        missing, surplus = len(wanted.keys() - found.keys()), len(found.keys() - wanted.keys())
        stale = sum(not _same(wanted[other], found[other]) for other in wanted.keys() & found.keys())
        parity.equal += not (missing or stale or surplus)
        parity.missing += missing
        parity.stale += stale
        parity.surplus += surplus
    return parity


def _same(wanted: tuple[int, Pair], found: tuple[int, Pair]) -> bool:
    (rank, one), (other_rank, other) = wanted, found
    return (
        rank == other_rank
        and (one.left_image, one.right_image) == (other.left_image, other.right_image)
        and abs(one.similarity - other.similarity) <= SAME_SCORE
    )


def _images(connection: Connection, name: str, **parameters: Any) -> Iterator[Image]:
    for part in _parts(connection, name, **parameters):
        yield from part


def _parts(connection: Connection, name: str, **parameters: Any) -> Iterator[Sequence[Image]]:
    """Streamed, as the products' images may be more than memory holds."""
    with connection.cursor(name=f"reference_{uuid4().hex}") as cursor:
        cursor.execute(query(name), parameters, binary=True)
        while rows := cursor.fetchmany(PART_IMAGES):
            yield [
                Image(owner, image, vector.to_numpy(), attribute_tokens(attributes))
                for owner, image, vector, attributes in rows
            ]
