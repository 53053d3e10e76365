"""Top-k lists of a few entities as objects, and one list under change."""

from collections.abc import Sequence, Set
from dataclasses import dataclass
from uuid import UUID

import numpy as np

from matching_pipeline.matches.kernel.columns import as_ids, as_uuids
from matching_pipeline.matches.kernel.pairs import Pairs
from matching_pipeline.matches.kernel.policy import Policy


@dataclass(frozen=True)
class Pair:
    """An entity in the list of another, and the two images that prove it."""

    right: UUID
    similarity: float
    left_image: UUID
    right_image: UUID

    @property
    def order(self) -> tuple[float, UUID]:
        """Best first; ties by id."""
        return (-self.similarity, self.right)


Lists = dict[UUID, list[Pair]]
"""By left entity, its pairs, best first."""


def lists_from(pairs: Pairs) -> Lists:
    """An entity without pairs has no list."""
    lists: Lists = {}
    images = as_uuids(pairs.left_image), as_uuids(pairs.right_image)
    columns = as_uuids(pairs.right), pairs.similarity.tolist(), *images
    for left, *pair in zip(as_uuids(pairs.left), *columns, strict=True):
        lists.setdefault(left, []).append(Pair(*pair))
    return lists


def pairs_from(lists: Lists) -> Pairs:
    listed = [(left, pair) for left in sorted(lists) for pair in lists[left]]
    return Pairs(
        as_ids(left for left, _ in listed),
        as_ids(pair.right for _, pair in listed),
        np.array([pair.similarity for _, pair in listed]),
        as_ids(pair.left_image for _, pair in listed),
        as_ids(pair.right_image for _, pair in listed),
    )


def merge(stored: Sequence[Pair], changed: Set[UUID], scored: Sequence[Pair], policy: Policy) -> list[Pair] | None:
    """A list after some right entities changed. `scored` are their pairs now. None means: recompute the list.

    Every entity outside a full list ranks behind its last pair. Outside a list with room none reaches the threshold.
    So the merged list is right as long as its last pair is no worse than the last pair was before. Otherwise an
    entity outside of it may deserve the place.
    """
    kept = [pair for pair in stored if pair.right not in changed]
    entering = [pair for pair in scored if pair.similarity >= policy.threshold]
    merged = sorted([*kept, *entering], key=lambda pair: pair.order)[: policy.limit]
    if len(stored) < policy.limit:
        return merged
    if len(merged) < policy.limit or merged[-1].order > stored[-1].order:
        return None
    return merged
