"""How to bound the scores of many pairs: by 8-bit or float products, of how many and which dimensions."""

from collections.abc import Iterator
from functools import cached_property

import numpy as np

from matching_pipeline.matches.kernel import products
from matching_pipeline.matches.kernel.basis import Basis, principal_directions, strongest_coordinates
from matching_pipeline.matches.kernel.coding import Coding, FloatCoding, Int8Coding
from matching_pipeline.matches.kernel.columns import Numbers, Rows, Vectors
from matching_pipeline.matches.kernel.images import Scorer
from matching_pipeline.matches.kernel.stages import coarse

FEW_SCORES = 4_000_000
"""For fewer scores in all, 8-bit codes cost more than they save."""
WORTH_CHOOSING = 2 * 10**10
"""With fewer multiplications in all, the choice costs more than it saves."""
WORTH_DIRECTIONS = 400
"""So many multiplications for each of the cube of the dimensions, which is what principal directions cost."""
STEP = 64
"""Depths are multiples of it, with the columns of the rest: an integer product adds up 64 columns at once."""
TRIED = (256, 512)
"""Pairs of so many left and right rows tell what a depth excludes."""
SAMPLED = 2048
"""Rows of each side that tell the centre and the directions."""
EXACT_SECONDS = 2.5e-9
"""A dimension's share in the exact score of one pair."""


class Choice:
    """The bounds of the pairs of a scorer's two sides. Any choice is right: a bad one costs time only."""

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer
        self._pairs = len(scorer.left.image_ids) * len(scorer.right.image_ids)

    @property
    def few(self) -> bool:
        return self._pairs < FEW_SCORES

    def coding(self, floors: Numbers | None) -> Coding:
        """The coding for pairs that must reach their left row's floor. None if the floors are not known yet."""
        if self.few:
            return FloatCoding(np.zeros(self._scorer.width, dtype=np.float32))
        kind = Int8Coding if products.costs().codes_are_faster else FloatCoding
        chosen: Coding = kind(self._centre)
        if floors is None or self._pairs * self._scorer.width < WORTH_CHOOSING:
            return chosen
        least = self._seconds(chosen, floors)
        for basis in self._bases:
            before = float("inf")
            for coding in _by_depth(kind, self._centre, basis):
                seconds = self._seconds(coding, floors)
                if seconds > before:
                    break
                before = seconds
                if seconds < least:
                    chosen, least = coding, seconds
        return chosen

    def _seconds(self, coding: Coding, floors: Numbers) -> float:
        """What a pair costs, by a sample of pairs."""
        (rows, left), right = self._tried
        bounds = coarse(coding, coding.left(left), coding.right(right), self._scorer.slack)
        share = np.count_nonzero(bounds.reaching(floors[rows])) / bounds.products.size
        return coding.columns * products.costs().faster + share * self._scorer.width * EXACT_SECONDS

    @cached_property
    def _samples(self) -> tuple[Vectors, Vectors]:
        scorer = self._scorer
        return (
            scorer.left_vectors(_spread(len(scorer.left.image_ids), SAMPLED)),
            scorer.right_vectors(_spread(len(scorer.right.image_ids), SAMPLED)),
        )

    @cached_property
    def _tried(self) -> tuple[tuple[Rows, Vectors], Vectors]:
        """Left rows and their vectors, and right vectors."""
        scorer = self._scorer
        rows, columns = _spread(len(scorer.left.image_ids), TRIED[0]), _spread(len(scorer.right.image_ids), TRIED[1])
        return (rows, scorer.left_vectors(rows)), scorer.right_vectors(columns)

    @cached_property
    def _centre(self) -> Vectors:
        """About the mean of the right vectors."""
        centre: Vectors = self._samples[1].mean(axis=0, dtype=np.float64).astype(np.float32)
        return centre

    @cached_property
    def _bases(self) -> list[Basis]:
        """All dimensions, the most important first."""
        left, right = self._samples[0], self._samples[1] - self._centre
        bases: list[Basis] = [strongest_coordinates(left, right)]
        if self._pairs > WORTH_DIRECTIONS * self._scorer.width**2:
            directions = principal_directions(left, right)
            bases += [directions] if directions else []
        return bases


def _by_depth(kind: type[Int8Coding | FloatCoding], centre: Vectors, basis: Basis) -> Iterator[Coding]:
    for columns in range(len(centre) - 1 - (len(centre) - 1) % STEP, 0, -STEP):
        yield kind(centre, basis.leading(columns - kind.REST_COLUMNS))


def _spread(count: int, most: int) -> Rows:
    return np.linspace(0, count - 1, min(count, most)).astype(np.intp)
