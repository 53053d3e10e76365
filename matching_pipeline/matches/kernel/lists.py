"""Lists of a few owners as objects, and one owner's list under change."""

from collections.abc import Sequence, Set
from dataclasses import dataclass
from uuid import UUID

import numpy as np

from matching_pipeline.matches.kernel.images import ids, uuids
from matching_pipeline.matches.kernel.kernel import Policy
from matching_pipeline.matches.kernel.pairs import Pairs


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


def pairs_from(lists: Lists) -> Pairs:
    listed = [(owner, pair) for owner in sorted(lists) for pair in lists[owner]]
    return Pairs(
        ids(owner for owner, _ in listed),
        ids(pair.right_id for _, pair in listed),
        np.array([pair.similarity for _, pair in listed]),
        ids(pair.left_image_id for _, pair in listed),
        ids(pair.right_image_id for _, pair in listed),
    )


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
