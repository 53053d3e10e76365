"""What `matches` means, written to be read: which pairs a list holds, image by image and in float64.

A second way of computing, for checks and tests; with the kernel, which is fast, it shares no arithmetic.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from matching_pipeline.matches.kernel.kernel import Policy

DECIMALS = 9
"""To which a score is rounded, so that equal pairs tie."""


class Image(NamedTuple):
    """A project's, a product's, or a face, which is its own owner."""

    owner: UUID
    id: UUID
    vector: NDArray[np.float32]
    words: frozenset[str] = frozenset()
    """its attributes, as `attribute_tokens` gives them"""


class Entry(NamedTuple):
    """A place in a list, and the two images that prove it."""

    other: UUID
    similarity: float
    image: UUID
    other_image: UUID

    @property
    def order(self) -> tuple[float, UUID, UUID, UUID]:
        """Best first; ties by id."""
        return (-self.similarity, self.other, self.image, self.other_image)


Lists = dict[UUID, list[Entry]]
"""By owner, what belongs to it, best first."""


def best_lists(owners: Sequence[Image], others: Iterable[Sequence[Image]], policy: Policy) -> Lists:
    """The list of every owner; the others come in parts of any size, of which one is held at a time."""
    lists: Lists = {image.owner: [] for image in owners}
    for part in others:
        directed = [image for image in part if image.vector.any()]
        directions = np.array([_direction(image) for image in directed])
        for image in owners:
            if directed and image.vector.any():
                found = _entries(image, directed, directions, policy)
                lists[image.owner] = _best([*lists[image.owner], *found], policy.limit)
    return lists


def _entries(
    image: Image, others: Sequence[Image], directions: NDArray[np.float64], policy: Policy
) -> Iterable[Entry]:
    weight = policy.attribute_weight
    cosines = directions @ _direction(image)
    # the overlap is 1 at most, so none of the rest reaches the threshold
    for row in np.flatnonzero((1 - weight) * cosines + weight >= policy.threshold - 10**-DECIMALS).tolist():
        other = others[row]
        score = (1 - weight) * float(cosines[row]) + weight * _overlap(image.words, other.words)
        similarity = max(-1.0, min(1.0, round(score, DECIMALS)))
        if similarity >= policy.threshold:
            yield Entry(other.owner, similarity, image.id, other.id)


def _best(entries: Iterable[Entry], limit: int) -> list[Entry]:
    """Each other once, by its best two images."""
    best: dict[UUID, Entry] = {}
    for entry in sorted(entries, key=lambda entry: entry.order):
        best.setdefault(entry.other, entry)
    return list(best.values())[:limit]


def _direction(image: Image) -> NDArray[np.float64]:
    vector = image.vector.astype(np.float64)
    direction: NDArray[np.float64] = vector / np.sqrt(vector @ vector)
    return direction


def _overlap(one: frozenset[str], other: frozenset[str]) -> float:
    """Ochiai's coefficient."""
    return float(len(one & other) / np.sqrt(len(one) * len(other))) if one and other else 0.0
