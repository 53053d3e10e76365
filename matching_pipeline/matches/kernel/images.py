"""Images of many entities as arrays, and the score of two images."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from matching_pipeline.matches.kernel import products
from matching_pipeline.matches.kernel.attributes import all_overlaps, overlaps, shared_words
from matching_pipeline.matches.kernel.columns import Ids, Numbers, Rows, Vectors, starts_of
from matching_pipeline.matches.kernel.policy import DECIMALS, ROUNDING

ORDINARY_LENGTHS = (1e-15, 1e15)
"""Float32 products of other vectors may vanish or overflow."""

Form = type[np.float32 | np.float64]

_CHUNK_BYTES = 1 << 19
"""A chunk of so many bytes stays in the processor's cache."""
_LONG = 8192
"""If a row has more numbers, `np.einsum` sums it in one order alone, and in another beside others."""


@dataclass(frozen=True)
class ImageSet:
    """Images grouped by entity. Rows are sorted by (entity, image id), entities by id, so row order is id order."""

    entities: Ids
    starts: Rows
    """(entities,): the first row of each entity. Every entity has at least one image."""
    image_ids: Ids
    embeddings: Vectors
    """(images, dimensions), of any length but zero."""
    tokens: Sequence[frozenset[str]]

    @cached_property
    def ends(self) -> Rows:
        return np.append(self.starts[1:], len(self.image_ids))

    @cached_property
    def entity_of_row(self) -> Rows:
        return np.repeat(np.arange(len(self.entities)), self.ends - self.starts)

    @cached_property
    def norms(self) -> Numbers:
        squares = np.empty(len(self.image_ids), dtype=np.float64)
        step = _chunk_rows(self.embeddings, np.float64)
        for begin in range(0, len(squares), step):
            exact = self.embeddings[begin : begin + step].astype(np.float64)
            np.einsum("ij,ij->i", exact, exact, out=squares[begin : begin + step])
        return np.sqrt(squares)

    @cached_property
    def is_ordinary(self) -> bool:
        """Whether float32 products of its vectors neither vanish nor overflow."""
        return bool(np.all((self.norms > ORDINARY_LENGTHS[0]) & (self.norms < ORDINARY_LENGTHS[1])))

    def unit(self, rows: slice | Rows, form: Form = np.float64) -> NDArray[Any]:
        unit: NDArray[Any] = self.embeddings[rows].astype(form, copy=False) / self.norms[rows, None].astype(form)
        return unit


def image_set(
    entity_of_row: Ids, image_ids: Ids, embeddings: Vectors, tokens: Sequence[frozenset[str]] | None = None
) -> ImageSet:
    """Makes a set from rows that are sorted by (entity, image id); without tokens no image has any."""
    starts = starts_of(entity_of_row)
    return ImageSet(entity_of_row[starts], starts, image_ids, embeddings, tokens or [frozenset()] * len(image_ids))


class Scorer:
    """Scores of the images of two sets: `(1 - w) · cosine + w · overlap`."""

    def __init__(self, left: ImageSet, right: ImageSet, attribute_weight: float) -> None:
        self.left, self.right, self.weight = left, right, attribute_weight
        self._words = shared_words(left.tokens, right.tokens) if attribute_weight else None

    @property
    def has_words(self) -> bool:
        return self._words is not None

    def exact(self, left_rows: Rows, right_rows: Rows) -> Numbers:
        """Scores of paired rows in float64. Each row is summed alone, so a score depends on its two images only."""
        return np.clip(np.round(self._paired(left_rows, right_rows, np.float64), DECIMALS), -1, 1)

    def near(self, left_rows: Rows, right_rows: Rows) -> Numbers:
        """Scores of paired rows from products in float32. They are off by `nearness` at most."""
        return self._paired(left_rows, right_rows, self._form)

    def all_near(self, left_rows: slice | Rows, right_rows: slice | Rows) -> Numbers:
        """(right rows, left rows): scores of all pairs that are off by `nearness` at most.

        The thread's next product may overwrite them.
        """
        return self._all(left_rows, right_rows, self._form)

    def all_least(self, left_rows: Rows, right_rows: Rows) -> Numbers:
        """(right rows, left rows): as `all_near`, but without overlaps, which only add to a score.

        Sparse products of few rows cost much more than dense ones.
        """
        return self._products(left_rows, right_rows, self._form)

    @property
    def nearness(self) -> float:
        """A float32 sum of n products, in any order, is off by less than n · 2⁻²⁴ for each unit of length."""
        return float((self.left.embeddings.shape[1] + 16) * 2.0**-24 + ROUNDING)

    @cached_property
    def _form(self) -> Form:
        return np.float32 if self.left.is_ordinary and self.right.is_ordinary else np.float64

    def _paired(self, left_rows: Rows, right_rows: Rows, form: Form) -> Numbers:
        scores = _row_products(self.left.embeddings, self.right.embeddings, left_rows, right_rows, form)
        scores *= (1 - self.weight) / (self.left.norms[left_rows] * self.right.norms[right_rows])
        if self._words:
            scores += self.weight * overlaps(*self._words, left_rows, right_rows)
        return scores

    def all_scores(self, left_rows: slice, right_rows: slice) -> Numbers:
        """(right rows, left rows): scores in float64 that are not rounded, by one matrix product."""
        return self._all(left_rows, right_rows, np.float64)

    def _all(self, left_rows: slice | Rows, right_rows: slice | Rows, form: Form) -> Numbers:
        scores = self._products(left_rows, right_rows, form)
        if self._words:
            scores += self.weight * all_overlaps(*self._words, left_rows, right_rows).T
        return scores

    def _products(self, left_rows: slice | Rows, right_rows: slice | Rows, form: Form) -> Numbers:
        left: NDArray[Any] = self.left.unit(left_rows, form)
        right: NDArray[Any] = self.right.embeddings[right_rows].astype(form, copy=False)
        scores: Numbers = products.of_floats(right, left) if form == np.float32 else right @ left.T
        scores *= ((1 - self.weight) / self.right.norms[right_rows, None]).astype(form)
        return scores

    @property
    def width(self) -> int:
        """Dimensions of the folded vectors."""
        words = self._words[0].folded_columns if self._words else 0
        return int(self.left.embeddings.shape[1]) + words

    @cached_property
    def slack(self) -> float:
        """How much a score may exceed the product of two folded vectors, which are rounded to float32."""
        lengths = [np.sqrt(1 - self.weight) + np.sqrt(self.weight) * self._longest(side) for side in (0, 1)]
        return float(4.1 * np.finfo(np.float32).eps * lengths[0] * lengths[1] + ROUNDING)

    def left_vectors(self, rows: slice | Rows) -> Vectors:
        """(left rows, width): vectors whose inner products with those of right rows are at least the scores.

        They are the scores if every word has a column of its own.
        """
        return self._folded(self.left, 0, rows)

    def right_vectors(self, rows: slice | Rows) -> Vectors:
        return self._folded(self.right, 1, rows)

    def _longest(self, side: int) -> float:
        """No row of folded words is longer."""
        return float(np.sqrt(self._words[side].counts.max(initial=0))) if self._words else 0.0

    def _folded(self, images: ImageSet, side: int, rows: slice | Rows) -> Vectors:
        embeddings, dimensions = images.embeddings[rows], images.embeddings.shape[1]
        folded = np.empty((len(embeddings), self.width), dtype=np.float32)
        scale = np.sqrt(1 - self.weight) / images.norms[rows]
        if scale.min(initial=1) > 1e-30 and scale.max(initial=1) < 1e30:
            np.multiply(embeddings, scale.astype(np.float32)[:, None], out=folded[:, :dimensions])
        else:  # float32 holds no scale for vectors that are so long or so short
            folded[:, :dimensions] = embeddings * scale[:, None]
        if self._words:
            folded[:, dimensions:] = np.sqrt(self.weight) * self._words[side].folded(rows)
        return folded


def _row_products(left: Vectors, right: Vectors, left_rows: Rows, right_rows: Rows, form: Form) -> Numbers:
    """Inner products of paired rows in this form, a chunk at a time.

    New memory for each chunk would cost more than the products.
    """
    products, step = np.empty(len(left_rows), dtype=form), _chunk_rows(left, form)
    gathered = np.empty((2, step, left.shape[1]), dtype=np.float32)
    for begin in range(0, len(left_rows), step):
        rows = slice(begin, begin + step)
        count = len(left_rows[rows])
        for side, taken, into in ((left, left_rows, gathered[0]), (right, right_rows, gathered[1])):
            # "clip" writes into `out` directly; all rows exist
            np.take(side, taken[rows], axis=0, out=into[:count], mode="clip")
        a, b = gathered[:, :count].astype(form, copy=False)
        np.einsum("ij,ij->i", a, b, out=products[rows])
    return np.asarray(products, dtype=np.float64)


def _chunk_rows(vectors: Vectors, form: Form) -> int:
    """How many rows in this form stay in the processor's cache, or 1 if they are long."""
    dimensions = max(1, vectors.shape[1])
    return _CHUNK_BYTES // int(dimensions * np.dtype(form).itemsize) if dimensions <= _LONG else 1
