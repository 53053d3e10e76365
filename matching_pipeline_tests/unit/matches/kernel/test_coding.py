"""Products of codes, and how far they may be off."""

import numpy as np
import pytest

from matching_pipeline.matches.kernel.basis import Basis
from matching_pipeline.matches.kernel.coding import Coding, FloatCoding, Int8Coding, error, lengths_of
from matching_pipeline.matches.kernel.stages import coarse
from matching_pipeline_tests.fixtures.vectors import KINDS, Vectors, vectors


@pytest.fixture(params=["8 bits", "8 bits off a centre", "8 bits of few directions", "floats"])
def coding(request: pytest.FixtureRequest) -> Coding:
    if request.param == "floats":
        return FloatCoding()
    pytest.importorskip("numkong", reason="it has no wheel for this platform")
    random = np.random.default_rng(2)
    if request.param == "8 bits off a centre":
        return Int8Coding(random.normal(scale=0.05, size=256).astype(np.float32))
    if request.param == "8 bits":
        return Int8Coding(np.zeros(256, dtype=np.float32))
    directions = np.linalg.qr(random.normal(size=(256, 64)))[0]
    return Int8Coding(np.zeros(256, dtype=np.float32), Basis(directions.astype(np.float32)))


@pytest.mark.parametrize("kind", KINDS)
def test_products_are_within_their_error(kind: str, coding: Coding) -> None:
    generator = np.random.default_rng(5)
    left, right = (unit(vectors(kind, size, 256, generator)) for size in (100, 400))
    coded, tile = coding.left(left), coding.right(right)
    product = coding.multiply(coded, tile) * (coded.scale * tile.scale)[:, None] + coded.along_centre[:, None]
    exact = left.astype(np.float64) @ right.astype(np.float64).T
    assert (np.abs(product - exact).max(axis=1) <= error(coded, tile)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_bounds_exclude_no_pair_that_reaches_its_floor(kind: str, coding: Coding) -> None:
    generator = np.random.default_rng(5)
    left, right = (unit(vectors(kind, size, 256, generator)) for size in (100, 400))
    bounds = coarse(coding, coding.left(left), coding.right(right), slack=0)
    exact = left.astype(np.float64) @ right.astype(np.float64).T
    floors = exact[np.arange(100), generator.integers(400, size=100)]
    assert bounds.reaching(floors)[exact >= floors[:, None]].all()


def test_8_bits_lose_about_a_hundredth() -> None:
    pytest.importorskip("numkong", reason="it has no wheel for this platform")
    some, coding = unit(vectors("random", 400, 512, np.random.default_rng(5))), Int8Coding(np.zeros(512, np.float32))
    assert error(coding.left(some), coding.right(some)).max() < 0.03


def unit(vectors: Vectors) -> Vectors:
    exact = vectors.astype(np.float64)
    return np.asarray(exact / np.linalg.norm(exact, axis=1, keepdims=True), dtype=np.float32)


def test_lengths_are_never_short() -> None:
    some = vectors("random", 500, 3000, np.random.default_rng(1))
    assert (lengths_of(some) >= np.linalg.norm(some.astype(np.float64), axis=1)).all()
