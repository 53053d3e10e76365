"""The definition of `matches`, written to be read: the pairs of each list, image by image and in float64.

Checks and tests compare the kernel with it. The kernel is fast and shares no arithmetic with it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple
from uuid import UUID

import numpy as np

from matching_pipeline.matches.kernel.columns import Numbers, Vectors
from matching_pipeline.matches.kernel.lists import Lists, Pair
from matching_pipeline.matches.kernel.policy import DECIMALS, Policy


class Image(NamedTuple):
    """An item of an entity: a picture, the text or the vector."""

    entity: UUID
    id: UUID
    vector: Vectors
    tokens: frozenset[str] = frozenset()
    """its attributes, as `attribute_tokens` gives them"""
    properties: Mapping[str, str | None] = {}
    """of its entity"""


def best_lists(
    images: Sequence[Image],
    others: Iterable[Sequence[Image]],
    policy: Policy,
    may_match: Callable[[Image, Image], bool] = lambda image, other: True,
    is_left: Callable[[UUID, UUID], bool] = lambda entity, other: True,
) -> Lists:
    """The list of every entity of the images. The others come in parts of any size; one part is held at a time.

    `is_left` says whether the first of two entities is the left one: if scores are equal, its first image proves the
    pair.
    """
    lists: Lists = {image.entity: [] for image in images}
    for part in others:
        directed = [image for image in part if image.vector.any()]
        directions = np.array([_direction(image) for image in directed])
        for image in images:
            if directed and image.vector.any():
                pairs = [*lists[image.entity], *_pairs(image, directed, directions, policy, may_match)]
                lists[image.entity] = _best(pairs, policy.limit, partial(is_left, image.entity))
    return lists


def _pairs(
    image: Image,
    others: Sequence[Image],
    directions: Numbers,
    policy: Policy,
    may_match: Callable[[Image, Image], bool],
) -> Iterator[Pair]:
    weight = policy.attribute_weight
    cosines = directions @ _direction(image)
    # the overlap is 1 at most, so no other row reaches the threshold
    for row in np.flatnonzero((1 - weight) * cosines + weight >= policy.threshold - 10**-DECIMALS).tolist():
        other = others[row]
        score = (1 - weight) * float(cosines[row]) + weight * _overlap(image.tokens, other.tokens)
        similarity = max(-1.0, min(1.0, round(score, DECIMALS)))
        if similarity >= policy.threshold and may_match(image, other):
            yield Pair(other.entity, similarity, image.id, other.id)


def _best(pairs: Iterable[Pair], limit: int, is_left: Callable[[UUID], bool]) -> list[Pair]:
    """Each other entity once, with its best two images; if some are equal, those with the first ids."""

    def order(pair: Pair) -> tuple[tuple[float, UUID], UUID, UUID]:
        images = pair.left_image, pair.right_image
        return pair.order, *(images if is_left(pair.right) else reversed(images))

    best: dict[UUID, Pair] = {}
    for pair in sorted(pairs, key=order):
        best.setdefault(pair.right, pair)
    return list(best.values())[:limit]


def _direction(image: Image) -> Numbers:
    vector = image.vector.astype(np.float64)
    direction: Numbers = vector / np.sqrt(vector @ vector)
    return direction


def _overlap(one: frozenset[str], other: frozenset[str]) -> float:
    """Ochiai's coefficient."""
    return float(len(one & other) / np.sqrt(len(one) * len(other))) if one and other else 0.0
