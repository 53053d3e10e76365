"""Products of codes, and how far they may be off."""

import numpy as np
import pytest

from matching_pipeline.matches.kernel.basis import Basis
from matching_pipeline.matches.kernel.products import FloatProducts, Int8Products, Products, error, lengths_of
from matching_pipeline_tests.fixtures.vectors import KINDS, Vectors, vectors


@pytest.fixture(params=["8 bits", "8 bits of few directions", "floats"])
def products(request: pytest.FixtureRequest) -> Products:
    if request.param == "floats":
        return FloatProducts()
    pytest.importorskip("numkong", reason="it has no wheel for this platform")
    if request.param == "8 bits":
        return Int8Products()
    directions = np.linalg.qr(np.random.default_rng(2).normal(size=(256, 64)))[0]
    return Int8Products(Basis(directions.astype(np.float32)))


@pytest.mark.parametrize("kind", KINDS)
def test_products_are_within_their_error(kind: str, products: Products) -> None:
    generator = np.random.default_rng(5)
    left, right = (unit(vectors(kind, size, 256, generator)) for size in (100, 400))
    coded, block = products.left(left), products.right(right)
    product = products.multiply(coded, block) * (coded.scale * block.scale)[:, None]
    exact = left.astype(np.float64) @ right.astype(np.float64).T
    assert (np.abs(product - exact).max(axis=1) <= error(coded, block)).all()


def test_8_bits_lose_about_a_hundredth() -> None:
    pytest.importorskip("numkong", reason="it has no wheel for this platform")
    some = unit(vectors("random", 400, 512, np.random.default_rng(5)))
    assert error(Int8Products().left(some), Int8Products().right(some)).max() < 0.03


def unit(vectors: Vectors) -> Vectors:
    exact = vectors.astype(np.float64)
    return np.asarray(exact / np.linalg.norm(exact, axis=1, keepdims=True), dtype=np.float32)


def test_lengths_are_never_short() -> None:
    some = vectors("random", 500, 3000, np.random.default_rng(1))
    assert (lengths_of(some) >= np.linalg.norm(some.astype(np.float64), axis=1)).all()
