"""Attributes as words: exact overlaps, and their bound."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from matching_pipeline.matches.kernel.attributes import (
    FOLDED_COLUMNS,
    all_overlaps,
    attribute_tokens,
    overlaps,
    shared_words,
)

words = st.lists(st.frozensets(st.integers(0, 9).map(str), max_size=5), min_size=1, max_size=6)


def test_free_text_is_no_token() -> None:
    attributes = {"caption": "a red chair", "colors": ["red", "grey"], "orientation": "square"}
    assert attribute_tokens(attributes) == {"colors=red", "colors=grey", "orientation=square"}


@given(left=words, right=words)
def test_overlaps_are_ochiais(left: list[frozenset[str]], right: list[frozenset[str]]) -> None:
    expected = np.array([[len(a & b) / math.sqrt(max(len(a), 1) * max(len(b), 1)) for b in right] for a in left])
    known = shared_words(left, right)
    rows, columns = np.divmod(np.arange(expected.size), len(right))
    np.testing.assert_allclose(overlaps(*known, rows, columns), expected.ravel(), atol=1e-12)
    np.testing.assert_allclose(all_overlaps(*known, slice(0, len(left)), slice(0, len(right))), expected, atol=1e-12)
    np.testing.assert_allclose(known[0].folded(slice(None)) @ known[1].folded(slice(None)).T, expected, atol=1e-12)


def test_products_of_more_words_than_columns_are_never_below_the_overlaps() -> None:
    generator = np.random.default_rng(5)
    sets = [frozenset(map(str, generator.zipf(1.1, size=12) % (20 * FOLDED_COLUMNS))) for _ in range(300)]
    left, right = shared_words(sets, sets[::-1])
    assert left.folded(slice(None)).shape == (300, FOLDED_COLUMNS)
    exact = all_overlaps(left, right, slice(0, 300), slice(0, 300))
    bound = left.folded(slice(None)) @ right.folded(slice(None)).T
    assert (bound >= exact - 1e-12).all()
    assert bound.mean() < 2 * exact.mean()
