"""A comparison of some lists of `matches` with the definition, which computes them in another way."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any
from uuid import UUID, uuid4

from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import query
from matching_pipeline.db.transactions import snapshot
from matching_pipeline.matches import faces, projects
from matching_pipeline.matches.kernel.attributes import attribute_tokens
from matching_pipeline.matches.kernel.lists import Lists, Pair
from matching_pipeline.matches.kernel.reference import Image, best_lists
from matching_pipeline.matches.match_table import match_policy

IMAGES_AT_ONCE = 4096
"""Read and scored at once, which bounds memory."""
SAME_SCORE = 1e-6
QUEUE_OF_KIND = {projects.KIND: projects.QUEUE, faces.KIND: faces.QUEUE}
"""By kind, the queue whose jobs change its lists."""
SAMPLES = {projects.KIND: "sampled_projects", faces.KIND: "sampled_faces"}
STORED_LISTS = {projects.KIND: "stored_project_lists", faces.KIND: "stored_face_lists"}

RankedPairs = dict[tuple[UUID, UUID], tuple[int, Pair]]
"""By entity and listed entity, the rank in the list and the pair."""


@dataclass
class Parity:
    """How many lists were sampled, and the pairs in which they differ from the definition."""

    sampled: int = 0
    equal: int = 0
    missing: int = 0
    stale: int = 0
    """pairs whose rank, evidence or similarity should be another"""
    surplus: int = 0
    waiting: int = 0
    """unfinished jobs at that instant, which may explain the differences"""

    @property
    def holds(self) -> bool | None:
        """None where unfinished jobs may still remove the differences."""
        return True if self.equal == self.sampled else None if self.waiting else False


def sampled_parity(connection: Connection, kind: str, count: int, seed: int) -> Parity:
    """Compares `count` lists of the kind as of one instant. A seed always gives the same sample."""
    with snapshot(connection):
        sample = connection.execute(query(SAMPLES[kind]), {"count": count, "seed": seed})
        entities = [entity for (entity,) in sample]
        parity = compared(expected_lists(connection, kind, entities), stored_pairs(connection, kind, entities))
        unfinished: dict[str, int] = dict(connection.execute(query("unfinished_jobs")).fetchall())
        parity.waiting = unfinished.get(QUEUE_OF_KIND[kind], 0)
        return parity


def expected_lists(connection: Connection, kind: str, entities: Collection[UUID]) -> Lists:
    """The entities' lists by the definition, in the caller's transaction."""
    lists: Lists = {entity: [] for entity in entities}
    policy = match_policy(connection, kind)
    if kind == projects.KIND:
        images = chain.from_iterable(_parts(connection, "defining_project_images", ids=list(entities)))
        return lists | best_lists(list(images), _parts(connection, "defining_product_images"), policy)
    for face in chain.from_iterable(_parts(connection, "defining_faces", ids=list(entities))):
        lists |= best_lists([face], _parts(connection, "defining_candidates", id=face.id), policy)
    return lists


def stored_pairs(connection: Connection, kind: str, entities: Collection[UUID]) -> RankedPairs:
    rows = connection.execute(query(STORED_LISTS[kind]), {"ids": list(entities)})
    return {(entity, other): (rank, Pair(other, *proof)) for entity, other, *proof, rank in rows}


def compared(expected: Lists, stored: RankedPairs) -> Parity:
    wanted = {
        (entity, pair.right): (rank, pair)
        for entity, pairs in expected.items()
        for rank, pair in enumerate(pairs, start=1)
    }
    missing, surplus = wanted.keys() - stored.keys(), stored.keys() - wanted.keys()
    stale = {key for key in wanted.keys() & stored.keys() if not _same(wanted[key], stored[key])}
    unequal = {entity for entity, _ in missing | surplus | stale}
    return Parity(len(expected), len(expected) - len(unequal), len(missing), len(stale), len(surplus))


def _same(wanted: tuple[int, Pair], stored: tuple[int, Pair]) -> bool:
    (rank, one), (stored_rank, other) = wanted, stored
    same_images = (one.left_image, one.right_image) == (other.left_image, other.right_image)
    return rank == stored_rank and same_images and abs(one.similarity - other.similarity) <= SAME_SCORE


def _parts(connection: Connection, name: str, **parameters: Any) -> Iterator[Sequence[Image]]:
    """In parts, as memory may not hold the images of all products."""
    with connection.cursor(name=f"reference_{uuid4().hex}") as cursor:
        cursor.execute(query(name), parameters, binary=True)
        while rows := cursor.fetchmany(IMAGES_AT_ONCE):
            yield [
                Image(entity, image, vector.to_numpy(), attribute_tokens(attributes))
                for entity, image, vector, attributes in rows
            ]
