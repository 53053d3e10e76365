"""Products of codes, and how far they may be off."""

import numpy as np
import pytest

from matching_pipeline.matching.products import FloatProducts, Int8Products, Products, error, lengths_of
from matching_pipeline_tests.fixtures.vectors import KINDS, Vectors, vectors


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("forms", [Int8Products, FloatProducts])
def test_products_are_within_their_error(kind: str, forms: type[Products]) -> None:
    if forms is Int8Products:
        pytest.importorskip("numkong", reason="it has no wheel for this platform")
    generator = np.random.default_rng(5)
    left, right = (unit(vectors(kind, size, 256, generator)) for size in (100, 400))
    products = forms()
    coded, block = products.left(left), products.right(right)
    product = products.multiply(coded, block) * (coded.scale * block.scale)[:, None]
    exact = left.astype(np.float64) @ right.astype(np.float64).T
    assert (np.abs(product - exact).max(axis=1) <= error(coded, block)).all()
    assert error(coded, block).max() < 0.2


def unit(vectors: Vectors) -> Vectors:
    exact = vectors.astype(np.float64)
    return np.asarray(exact / np.linalg.norm(exact, axis=1, keepdims=True), dtype=np.float32)


def test_lengths_are_never_short() -> None:
    some = vectors("random", 500, 3000, np.random.default_rng(1))
    assert (lengths_of(some) >= np.linalg.norm(some.astype(np.float64), axis=1)).all()
