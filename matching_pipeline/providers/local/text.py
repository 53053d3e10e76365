"""The `local` embedder: similarity of words, not meaning. No key, no network, no trained weights.

Two texts come close together where they share words, or parts of words: "Python developer" and "developer of
Python services" do, "Python developer" and "software engineer" do not.
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from matching_pipeline.errors import JobFailure, PermanentFailure

DIMENSIONS: Final = 384
HASHED: Final = 2**20
"""Columns in which n-grams hardly ever collide: they are counted there, and folded into few afterwards."""


class LocalTextEmbedder:
    """The TextEmbedder: hashed n-grams of words and of characters; the same text always gives the same vector."""

    model = "local-words-1"
    dimensions = DIMENSIONS
    # counting in Python holds the interpreter: a second thread makes both slower
    concurrency = 1
    batch_items = 100
    batch_tokens = 250_000

    def __init__(self) -> None:
        from sklearn.feature_extraction.text import HashingVectorizer

        shared = {"n_features": HASHED, "norm": None, "alternate_sign": True}
        self._words = HashingVectorizer(
            ngram_range=(1, 2), stop_words="english", token_pattern=r"\w[\w+#.]*", **shared
        )
        self._parts = HashingVectorizer(analyzer="char_wb", ngram_range=(3, 5), **shared)

    def estimate_tokens(self, text: str) -> int:
        return len(text) // 4 + 1

    def embed(self, texts: Sequence[str]) -> list[NDArray[np.float32] | JobFailure]:
        """A text without a letter or digit has no direction, and fails."""
        if not texts:
            return []
        words, parts = (_unit(_folded(each.transform(texts))) for each in (self._words, self._parts))
        vectors = words + parts
        lengths = np.linalg.norm(vectors, axis=1)
        return [
            (vector / length).astype(np.float32) if length > 0 else PermanentFailure("the text is empty")
            for vector, length in zip(vectors, lengths, strict=True)
        ]


def _folded(counts: Any) -> NDArray[np.float64]:
    """Dense rows of few columns, from a sparse matrix of many; often repeated n-grams count for little more.

    The hash gave each n-gram its sign, so that n-grams in one column cancel out on average.
    """
    folded = np.zeros((counts.shape[0], DIMENSIONS))
    rows = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))
    np.add.at(folded, (rows, counts.indices % DIMENSIONS), np.sign(counts.data) * np.log1p(np.abs(counts.data)))
    return folded


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0))
