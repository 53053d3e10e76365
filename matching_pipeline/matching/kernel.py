"""Which products a project matches best: exact, by a coarse matrix product and an exact pass over what it leaves."""

from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from matching_pipeline.matching.images import ImageSet, Rows, Scorer

BLOCK_SCORES = 16_000_000
"""Coarse scores held at once (64 MB): it bounds memory, whatever the sizes."""


@dataclass(frozen=True)
class Policy:
    """What a project keeps: its best `limit` products with score ≥ `threshold`."""

    threshold: float = 0.5
    limit: int = 20
    attribute_weight: float = 0.2


@dataclass(frozen=True)
class Pair:
    """A product in a project's list, and the two images that prove it."""

    right_id: UUID
    similarity: float
    left_image_id: UUID
    right_image_id: UUID

    @property
    def order(self) -> tuple[float, UUID]:
        """Best first; ties by id."""
        return (-self.similarity, self.right_id)


Lists = dict[UUID, list[Pair]]
"""By project, its pairs, best first."""


def best_lists(projects: ImageSet, products: ImageSet, policy: Policy) -> Lists:
    """The list of every project that has an image; a project that nothing matches has an empty one."""

    def floors(block: slice, scores: NDArray[np.float32], error: float) -> NDArray[np.float32]:
        lowest = np.full(len(scores), policy.threshold, dtype=np.float32)
        if scores.shape[1] > policy.limit:
            cut = scores.shape[1] - policy.limit
            lowest = np.maximum(lowest, np.partition(scores, cut, axis=1)[:, cut])
        return lowest - 2 * error

    lists: Lists = {project: [] for project in projects.owners}
    for project, pair in _exact_pairs(projects, products, policy, floors):
        if pair.similarity >= policy.threshold:
            lists[project].append(pair)
    return {project: sorted(pairs, key=lambda pair: pair.order)[: policy.limit] for project, pairs in lists.items()}


def pairs_above(
    projects: ImageSet,
    products: ImageSet,
    policy: Policy,
    floors: Mapping[UUID, float],
    always: Set[tuple[UUID, UUID]],
) -> Lists:
    """By project, the pairs that reach its floor (the threshold where none is given), and those in `always`."""
    lowest = np.array(
        [max(floors.get(project, policy.threshold), policy.threshold) for project in projects.owners],
        dtype=np.float32,
    )
    forced = _positions(projects, products, always)

    def block_floors(block: slice, scores: NDArray[np.float32], error: float) -> NDArray[np.float32]:
        inside = (forced[0] >= block.start) & (forced[0] < block.stop)
        scores[forced[0][inside] - block.start, forced[1][inside]] = np.inf
        return lowest[block] - 2 * error

    lists: Lists = {}
    for project, pair in _exact_pairs(projects, products, policy, block_floors):
        lists.setdefault(project, []).append(pair)
    return lists


def _positions(projects: ImageSet, products: ImageSet, pairs: Set[tuple[UUID, UUID]]) -> tuple[Rows, Rows]:
    rows = {project: row for row, project in enumerate(projects.owners)}
    columns = {product: column for column, product in enumerate(products.owners)}
    found = [(rows[a], columns[b]) for a, b in pairs if a in rows and b in columns]
    positions = np.array(found, dtype=np.intp).reshape(-1, 2)
    return positions[:, 0], positions[:, 1]


Floors = Callable[[slice, NDArray[np.float32], float], NDArray[np.float32]]
"""Of a block of projects, its coarse scores and their error: from which score on an exact look is worth it."""


def _exact_pairs(
    projects: ImageSet, products: ImageSet, policy: Policy, floors: Floors
) -> Iterator[tuple[UUID, Pair]]:
    if not projects.owners or not products.owners:
        return
    scorer = Scorer(projects, products, policy.attribute_weight)
    for block in _blocks(projects, len(products.image_ids)):
        scores = _best_of_groups(projects, products, scorer, block)
        floor = floors(block, scores, scorer.error)
        rows, columns = np.nonzero(scores >= floor[:, None])
        yield from _prove(scorer, rows + block.start, columns)


def _blocks(projects: ImageSet, right_images: int) -> Iterator[slice]:
    """Runs of projects whose images times the right-hand images stay below BLOCK_SCORES, or single projects."""
    rows = max(1, BLOCK_SCORES // max(right_images, 1))
    first = 0
    while first < len(projects.owners):
        last = int(np.searchsorted(projects.ends, projects.starts[first] + rows, side="right"))
        yield slice(first, max(last, first + 1))
        first = max(last, first + 1)


def _best_of_groups(projects: ImageSet, products: ImageSet, scorer: Scorer, block: slice) -> NDArray[np.float32]:
    """(projects of the block, products): the best coarse score over the images of both."""
    first_row, last_row = projects.starts[block.start], projects.ends[block.stop - 1]
    scores = scorer.coarse(slice(first_row, last_row))
    if len(products.owners) < scores.shape[1]:
        scores = np.maximum.reduceat(scores, products.starts, axis=1)
    if block.stop - block.start < len(scores):
        scores = np.maximum.reduceat(scores, projects.starts[block] - first_row, axis=0)
    return scores


def _prove(scorer: Scorer, rows: Rows, columns: Rows) -> Iterator[tuple[UUID, Pair]]:
    """The exact score of each (project, product), by its best two images; ties by the images' ids."""
    left, right = scorer.left, scorer.right
    left_counts, right_counts = (left.ends - left.starts)[rows], (right.ends - right.starts)[columns]
    sizes = left_counts * right_counts
    pair_of = np.repeat(np.arange(len(rows)), sizes)
    within = np.arange(len(pair_of)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    left_images = left.starts[rows][pair_of] + within // right_counts[pair_of]
    right_images = right.starts[columns][pair_of] + within % right_counts[pair_of]
    scores = scorer.exact(left_images, right_images)
    # a stable sort keeps image order among equals
    best_first = np.lexsort((-scores, pair_of))
    best = best_first[np.searchsorted(pair_of[best_first], np.arange(len(rows)))]
    for row, column, score, left_image, right_image in zip(
        rows, columns, scores[best].tolist(), left_images[best], right_images[best], strict=True
    ):
        yield (
            left.owners[row],
            Pair(right.owners[column], score, left.image_ids[left_image], right.image_ids[right_image]),
        )
