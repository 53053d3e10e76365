"""How to bound the scores of many pairs: by 8-bit or float products, of how many and which dimensions."""

from collections.abc import Iterator
from operator import itemgetter

import numpy as np

from matching_pipeline.matches.kernel.basis import Basis, Coordinates, principal_directions, strongest_coordinates
from matching_pipeline.matches.kernel.coding import Coding, FloatCoding, Int8Coding, error
from matching_pipeline.matches.kernel.columns import Numbers, Rows, Vectors
from matching_pipeline.matches.kernel.images import Scorer
from matching_pipeline.matches.kernel.products import Costs
from matching_pipeline.matches.kernel.seeds import spread

WORTH_CHOOSING = 1.0
"""With fewer seconds of products in all, the choice costs more than it saves."""
WORTH_DIRECTIONS = 65
"""Principal directions are worth their cost if all products cost so many multiplications of floats for each of the
cube of the dimensions. The directions cost a fifth of that."""
STEP = 64
"""Depths are multiples of it, with the columns of the rest: an integer product adds up 64 columns at once."""
TRIED = (256, 1024)
"""Pairs of so many left and right rows tell what a depth excludes."""
SAMPLED = 2048
"""Rows of each side that tell the centre and the directions."""
NEAR_SECONDS = 0.9e-9
"""A dimension's share in what a pair costs that the bound does not exclude."""


class Choice:
    """The bounds of the pairs of a scorer's two sides. Any choice is right: a bad one costs time only."""

    def __init__(self, scorer: Scorer, costs: Costs) -> None:
        """Finds what needs no floors."""
        self._scorer, self._costs = scorer, costs
        self._kind = Int8Coding if costs.codes_are_faster else FloatCoding
        self._pairs = len(scorer.left.image_ids) * len(scorer.right.image_ids)
        _, left, right = self._sample(SAMPLED, SAMPLED)
        self._centre: Vectors = right.mean(axis=0, dtype=np.float64).astype(np.float32)
        """about the mean of the right vectors"""
        self._bases = list[Basis]()
        """all dimensions, the most important first; none if no choice is worth it"""
        if self._pairs * scorer.width * costs.faster >= WORTH_CHOOSING:
            self._bases += self._worthwhile(left, right - self._centre)
        self._tried = self._sample(*TRIED)

    def coding(self, floors: Numbers) -> Coding:
        """The coding for pairs that must reach their left row's floor."""
        whole: Coding = self._kind(self._centre)
        choices = [
            (seconds, basis, depth)
            for basis in self._bases
            for depth, seconds in self._by_depth(basis, whole, floors)
        ]
        _, basis, depth = min(choices, key=itemgetter(0), default=(0, None, self._scorer.width))
        return self._kind(self._centre, basis.leading(depth)) if basis and depth < self._scorer.width else whole

    def _by_depth(self, basis: Basis, whole: Coding, floors: Numbers) -> Iterator[tuple[int, float]]:
        """Depths, and what a pair costs with each, by a sample of pairs. The last has all dimensions."""
        rows, left, right = self._tried
        rest_columns, costs = self._kind.REST_COLUMNS, self._costs
        coded = whole.left(left), whole.right(right)
        lacking = (
            coded[0].along_centre
            + error(coded[0], coded[1].length, coded[1].residual)
            + self._scorer.slack
            - floors[rows]
        )[:, None]
        inside = basis.inside(left), basis.inside(right - self._centre)
        rests = [np.sum(np.square(part), axis=1) for part in inside]
        bounds, width, before = lacking.astype(np.float32), self._scorer.width, 0
        for depth in [*range(STEP - rest_columns, width - rest_columns, STEP), width]:
            parts = [part[:, before:depth] for part in inside]
            bounds = bounds + parts[0] @ parts[1].T
            rests = [
                np.maximum(rest - np.sum(np.square(part), axis=1), 0) for rest, part in zip(rests, parts, strict=True)
            ]
            share = np.count_nonzero(bounds + np.outer(np.sqrt(rests[0]), np.sqrt(rests[1])) >= 0) / bounds.size
            seconds = (depth + rest_columns) * costs.faster + share * width * NEAR_SECONDS
            yield depth, seconds + (depth * self._turning(basis) if depth < width else 0)
            before = depth

    def _turning(self, basis: Basis) -> float:
        """What a direction costs, as a share of a pair: all vectors are multiplied by it."""
        if isinstance(basis, Coordinates):
            return 0.0
        rows = len(self._scorer.left.image_ids) + len(self._scorer.right.image_ids)
        return rows / self._pairs * self._scorer.width * self._costs.float32

    def _sample(self, *most: int) -> tuple[Rows, Vectors, Vectors]:
        """Left rows and their vectors, and right vectors."""
        scorer = self._scorer
        left, right = (
            spread(np.arange(len(side.image_ids)), count)
            for side, count in zip((scorer.left, scorer.right), most, strict=True)
        )
        return left, scorer.left_vectors(left), scorer.right_vectors(right)

    def _worthwhile(self, left: Vectors, right: Vectors) -> Iterator[Basis]:
        yield strongest_coordinates(left, right)
        costs = self._costs
        if self._pairs * costs.faster > WORTH_DIRECTIONS * self._scorer.width**2 * costs.float32:
            directions = principal_directions(left, right)
            if directions:
                yield directions
