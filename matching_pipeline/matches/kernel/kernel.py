"""Which right-hand owners a left-hand owner matches best: exact, whatever the order or size of what is compared."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from uuid import UUID

import numpy as np

from matching_pipeline.matches.kernel.images import ImageSet, uuids
from matching_pipeline.matches.kernel.pairs import Pairs
from matching_pipeline.matches.kernel.search import Search


@dataclass(frozen=True)
class Policy:
    """What a project keeps: its best `limit` products with score ≥ `threshold`."""

    threshold: float = 0.5
    limit: int = 20
    attribute_weight: float = 0.2


def best_pairs(left: ImageSet, right_parts: Iterable[ImageSet], policy: Policy) -> Pairs:
    """Everybody's list. The parts of the right side come by ascending owner, so that one at a time is held."""
    search = Search(left, policy.attribute_weight, np.full(len(left.owners), policy.threshold), policy.limit)
    for right in right_parts:
        search.add(right)
    return search.pairs()


def pairs_above(left: ImageSet, right: ImageSet, policy: Policy, floors: Mapping[UUID, float]) -> Pairs:
    """All pairs that reach their left owner's floor, and the threshold, which is the floor where none is given."""
    lowest = np.full(len(left.owners), policy.threshold)
    if floors:
        lowest = np.maximum(lowest, [floors.get(owner, policy.threshold) for owner in uuids(left.owners)])
    search = Search(left, policy.attribute_weight, lowest, limit=None)
    search.add(right)
    return search.pairs()
