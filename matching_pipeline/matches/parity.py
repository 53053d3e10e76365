"""A comparison of some lists of `matches` with the definition, which computes them in another way."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple
from uuid import UUID, uuid4

from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import query
from matching_pipeline.db.transactions import snapshot
from matching_pipeline.matches.kernel.attributes import attribute_tokens
from matching_pipeline.matches.kernel.lists import Lists, Pair
from matching_pipeline.matches.kernel.reference import Image, best_lists
from matching_pipeline.matches.match_table import match_policy
from matching_pipeline.sources.declarations import Matcher

IMAGES_AT_ONCE = 4096
"""Read and scored at once, which bounds memory."""
SAME_SCORE = 1e-6

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


def sampled_parity(connection: Connection, matcher: Matcher, count: int, seed: int) -> Parity:
    """Compares `count` lists of the matcher as of one instant. A seed always gives the same sample."""
    with snapshot(connection):
        parameters = {"matcher": matcher.name, "count": count, "seed": seed}
        entities = [entity for (entity,) in connection.execute(query("sampled_entities"), parameters)]
        expected = expected_lists(connection, matcher, entities)
        parity = compared(expected, stored_pairs(connection, matcher.name, entities))
        unfinished: dict[str, int] = dict(connection.execute(query("unfinished_jobs")).fetchall())
        parity.waiting = unfinished.get(matcher.queue, 0)
        return parity


def expected_lists(connection: Connection, matcher: Matcher, entities: Collection[UUID]) -> Lists:
    """The entities' lists by the definition, in the caller's transaction."""
    lists: Lists = {entity: [] for entity in entities}
    policy = match_policy(connection, matcher.name)
    modality = "vector" if matcher.left == matcher.right else "image"
    left = list(chain.from_iterable(_parts(connection, matcher.left, modality, list(entities))))
    if modality == "image":
        right = (tuple(item.image for item in part) for part in _parts(connection, matcher.right, modality))
        return lists | best_lists([item.image for item in left], right, policy)
    everyone = list(chain.from_iterable(_parts(connection, matcher.right, modality)))
    for item in left:
        candidates = [other.image for other in everyone if _may_match(matcher, item, other)]
        lists |= best_lists([item.image], [candidates], policy)
    return lists


def _may_match(matcher: Matcher, one: "_Item", other: "_Item") -> bool:
    for name in matcher.same:
        if one.properties.get(name) is None or one.properties[name] != other.properties.get(name):
            return False
    for name, (first, second) in matcher.opposite.items():
        if (one.properties.get(name), other.properties.get(name)) not in ((first, second), (second, first)):
            return False
    return True


def stored_pairs(connection: Connection, matcher: str, entities: Collection[UUID]) -> RankedPairs:
    rows = connection.execute(query("stored_lists"), {"matcher": matcher, "ids": list(entities)})
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


class _Item(NamedTuple):
    image: Image
    properties: dict[str, str | None]


def _parts(
    connection: Connection, source: str, modality: str, ids: list[UUID] | None = None
) -> Iterator[Sequence[_Item]]:
    """In parts, as memory may not hold all items."""
    with connection.cursor(name=f"reference_{uuid4().hex}") as cursor:
        cursor.execute(query("defining_items"), {"source": source, "modality": modality, "ids": ids}, binary=True)
        while rows := cursor.fetchmany(IMAGES_AT_ONCE):
            yield [
                _Item(Image(entity, image, vector.to_numpy(), attribute_tokens(attributes)), properties)
                for entity, image, vector, attributes, properties in rows
            ]
