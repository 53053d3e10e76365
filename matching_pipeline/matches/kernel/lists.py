"""Top-k lists as objects, and lists under change."""

from dataclasses import dataclass
from uuid import UUID

import numpy as np

from matching_pipeline.matches.kernel.columns import Ids, concatenate, places
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


def merge(stored: Pairs, changed: Ids, scored: Pairs, policy: Policy) -> tuple[Pairs, Ids]:
    """Lists after some right entities changed, whose pairs now are `scored`; and the owners of lists to recompute.

    Every entity outside a full list ranks behind its last pair. Outside a list with room none reaches the threshold.
    So a merged list is right as long as its last pair is no worse than the last pair was before. Otherwise an entity
    outside of it may deserve the place.
    """
    kept = stored.take(~np.isin(stored.right, changed))
    merged = best_first(concatenate([kept, scored.take(scored.similarity >= policy.threshold)]), policy.limit)
    before, now = (each.take(places(each.left) + 1 == policy.limit) for each in (best_first(stored), merged))
    same = np.isin(before.left, now.left)
    last, then = now.take(np.searchsorted(now.left, before.left[same])), before.take(same)
    tie = (last.similarity == then.similarity) & (last.right <= then.right)
    incomplete = np.setdiff1d(before.left, then.left[(last.similarity > then.similarity) | tie])
    return merged.take(~np.isin(merged.left, incomplete)), incomplete


def best_first(pairs: Pairs, limit: int | None = None) -> Pairs:
    """By left entity, best first, ties by right entity, at most `limit` each."""
    pairs = pairs.take(np.lexsort((pairs.right, -pairs.similarity, pairs.left)))
    return pairs if limit is None else pairs.take(places(pairs.left) < limit)
