"""One owner's list under change, and the difference between what stands and what should."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from uuid import UUID

from matching_pipeline.matching.images import uuids
from matching_pipeline.matching.kernel import Policy
from matching_pipeline.matching.pairs import Pairs

TOLERANCE = 1e-8
"""Scores that differ by less are the same score, computed on another machine."""


@dataclass(frozen=True)
class Pair:
    """An owner in another's list, and the two images that prove it."""

    right_id: UUID
    similarity: float
    left_image_id: UUID
    right_image_id: UUID

    @property
    def order(self) -> tuple[float, UUID]:
        """Best first; ties by id."""
        return (-self.similarity, self.right_id)


Lists = dict[UUID, list[Pair]]
"""By owner, its pairs, best first."""


def lists_from(pairs: Pairs) -> Lists:
    """An owner without pairs has no list."""
    lists: Lists = {}
    columns = uuids(pairs.right), pairs.similarity.tolist(), uuids(pairs.left_image), uuids(pairs.right_image)
    for owner, *pair in zip(uuids(pairs.left), *columns, strict=True):
        lists.setdefault(owner, []).append(Pair(*pair))
    return lists


def merge(stored: Sequence[Pair], changed: Set[UUID], scored: Sequence[Pair], policy: Policy) -> list[Pair] | None:
    """A list after some products changed: `scored` are the changed products' new pairs.

    Every product outside a full list ranks behind its last pair, and outside a list with room none reaches the
    threshold. So the merged list is right as long as its last pair is no worse than the old last one was;
    otherwise somebody outside may deserve the place, and None says that the list must be filled again.
    """
    kept = [pair for pair in stored if pair.right_id not in changed]
    entering = [pair for pair in scored if pair.similarity >= policy.threshold]
    merged = sorted([*kept, *entering], key=lambda pair: pair.order)[: policy.limit]
    if len(stored) < policy.limit:
        return merged
    if len(merged) < policy.limit or merged[-1].order > stored[-1].order:
        return None
    return merged


@dataclass(frozen=True)
class Difference:
    """What must be written so that the desired lists stand."""

    upserts: list[tuple[UUID, Pair, int]]
    """(project, pair, rank from 1) that are new or changed"""
    deletions: list[tuple[UUID, UUID]]
    """(project, product) that are no more"""
    added: int
    unchanged: int

    @property
    def changed(self) -> int:
        return len(self.upserts) - self.added


def difference(stored: Mapping[UUID, Sequence[tuple[Pair, int]]], desired: Lists) -> Difference:
    """Compares the lists of the projects in either mapping; a project that is missing on one side has none there."""
    upserts, deletions, added, unchanged = [], [], 0, 0
    for project in sorted(stored.keys() | desired.keys()):
        standing = {pair.right_id: (pair, rank) for pair, rank in stored.get(project, ())}
        for rank, pair in enumerate(desired.get(project, ()), start=1):
            found = standing.pop(pair.right_id, None)
            if found is not None and found[1] == rank and _same(found[0], pair):
                unchanged += 1
                continue
            added += found is None
            upserts.append((project, pair, rank))
        deletions += [(project, product) for product in standing]
    return Difference(upserts, deletions, added, unchanged)


def _same(one: Pair, other: Pair) -> bool:
    return (
        one.left_image_id == other.left_image_id
        and one.right_image_id == other.right_image_id
        and abs(one.similarity - other.similarity) < TOLERANCE
    )
