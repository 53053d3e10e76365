"""A comparison of some lists of `matches` with the definition, which computes them in another way."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from uuid import UUID, uuid4

from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import query
from matching_pipeline.db.transactions import snapshot
from matching_pipeline.matches.kernel.attributes import attribute_tokens
from matching_pipeline.matches.kernel.lists import Lists, Pair
from matching_pipeline.matches.kernel.reference import Image, best_lists
from matching_pipeline.matches.scoring import match_policy
from matching_pipeline.sources.matcher import Matcher

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
        """None if unfinished jobs may still remove the differences."""
        return True if self.equal == self.sampled else None if self.waiting else False

    def add(self, expected: Lists, stored: RankedPairs) -> None:
        """Counts the lists of some entities."""
        wanted = {
            (entity, pair.right): (rank, pair)
            for entity, pairs in expected.items()
            for rank, pair in enumerate(pairs, start=1)
        }
        missing, surplus = wanted.keys() - stored.keys(), stored.keys() - wanted.keys()
        stale = {key for key in wanted.keys() & stored.keys() if not _same(wanted[key], stored[key])}
        unequal = {entity for entity, _ in missing | surplus | stale}
        self.sampled += len(expected)
        self.equal += len(expected) - len(unequal)
        self.missing += len(missing)
        self.stale += len(stale)
        self.surplus += len(surplus)


def sampled_parity(connection: Connection, matcher: Matcher, count: int, seed: int) -> Parity:
    """Compares `count` lists of the matcher as of one instant. A seed always gives the same sample."""
    sides = {"matcher": matcher.name, "left": matcher.left, "right": matcher.right}
    parameters = {**sides, "keepers": list(matcher.keepers), "count": count, "seed": seed}
    parity, sampled = Parity(), defaultdict(list)
    with snapshot(connection):
        for source, entity in connection.execute(query("sampled_entities"), parameters):
            sampled[source].append(entity)
        for source, entities in sampled.items():
            expected = expected_lists(connection, matcher, source, entities)
            parity.add(expected, stored_pairs(connection, matcher, source, entities))
        unfinished: dict[str, int] = dict(connection.execute(query("unfinished_jobs")).fetchall())
        parity.waiting = unfinished.get(matcher.queue, 0)
    return parity


def expected_lists(connection: Connection, matcher: Matcher, source: str, entities: Collection[UUID]) -> Lists:
    """The lists of these entities of the source by the definition, in the caller's transaction."""
    policy = match_policy(connection, matcher.name)
    excepted = set(connection.execute(query("excepted_values"), {"matcher": matcher.name}).fetchall())
    items = list(chain.from_iterable(_parts(connection, source, list(entities))))
    others = _parts(connection, matcher.right if source == matcher.left else matcher.left)

    def may_match(one: Image, other: Image) -> bool:
        left, right = (one, other) if source == matcher.left else (other, one)
        return _may_match(matcher, left, right) and not (
            matcher.exceptions
            and (left.properties.get(matcher.exceptions.on), right.properties.get(matcher.exceptions.on)) in excepted
        )

    def is_left(one: UUID, other: UUID) -> bool:
        return one < other if matcher.left == matcher.right else source == matcher.left

    lists: Lists = {entity: [] for entity in entities}
    return lists | best_lists(items, others, policy, may_match, is_left)


def _may_match(matcher: Matcher, one: Image, other: Image) -> bool:
    if matcher.left == matcher.right and one.entity == other.entity:
        return False
    if matcher.never_same:
        values = one.properties.get(matcher.never_same), other.properties.get(matcher.never_same)
        if None in values or values[0] == values[1]:
            return False
    for name in matcher.same:
        if one.properties.get(name) is None or one.properties[name] != other.properties.get(name):
            return False
    for name, (first, second) in matcher.opposite.items():
        if (one.properties.get(name), other.properties.get(name)) not in ((first, second), (second, first)):
            return False
    return True


def stored_pairs(connection: Connection, matcher: Matcher, source: str, entities: Collection[UUID]) -> RankedPairs:
    sides = {"are_left": source == matcher.left, "are_right": source == matcher.right}
    rows = connection.execute(query("stored_lists"), {"matcher": matcher.name, "ids": list(entities), **sides})
    return {(entity, other): (rank, Pair(other, *proof)) for entity, other, *proof, rank in rows}


def _same(wanted: tuple[int, Pair], stored: tuple[int, Pair]) -> bool:
    (rank, one), (stored_rank, other) = wanted, stored
    same_images = (one.left_image, one.right_image) == (other.left_image, other.right_image)
    return rank == stored_rank and same_images and abs(one.similarity - other.similarity) <= SAME_SCORE


def _parts(connection: Connection, source: str, ids: list[UUID] | None = None) -> Iterator[Sequence[Image]]:
    """The items in parts, as memory may not hold all."""
    with connection.cursor(name=f"reference_{uuid4().hex}") as cursor:
        cursor.execute(query("defining_items"), {"source": source, "ids": ids}, binary=True)
        while rows := cursor.fetchmany(IMAGES_AT_ONCE):
            yield [
                Image(entity, image, vector.to_numpy(), attribute_tokens(attributes), properties)
                for entity, image, vector, attributes, properties in rows
            ]
