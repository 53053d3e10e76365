"""Products of codes, and how far they may be off."""

from collections.abc import Callable

import numpy as np
import pytest

from matching_pipeline.matches.kernel.basis import Basis, Coordinates, Directions
from matching_pipeline.matches.kernel.coding import Coding, FloatCoding, Int8Coding, error, lengths_of
from matching_pipeline.matches.kernel.stages import coarse, reaching
from matching_pipeline_tests.fixtures.vectors import KINDS, Vectors, vectors

BASES: dict[str, Callable[[np.random.Generator], Basis | None]] = {
    "all": lambda random: None,
    "coordinates": lambda random: Coordinates(np.sort(random.permutation(256)[:100])),
    "directions": lambda random: Directions(np.linalg.qr(random.normal(size=(256, 256)))[0].astype(np.float32)),
    "few directions": lambda random: Directions(np.linalg.qr(random.normal(size=(256, 64)))[0].astype(np.float32)),
}


@pytest.fixture(params=BASES, scope="module")
def basis(request: pytest.FixtureRequest) -> Basis | None:
    return BASES[request.param](np.random.default_rng(2))


@pytest.fixture(params=["8 bits", "floats"])
def kind(request: pytest.FixtureRequest) -> type[Int8Coding | FloatCoding]:
    if request.param == "floats":
        return FloatCoding
    pytest.importorskip("numkong", reason="it has no wheel for this platform")
    return Int8Coding


@pytest.fixture(params=["a centre", "no centre"])
def coding(request: pytest.FixtureRequest, kind: type[Int8Coding | FloatCoding], basis: Basis | None) -> Coding:
    centre = np.random.default_rng(2).normal(scale=0.05, size=256) * (request.param == "a centre")
    return kind(centre.astype(np.float32), basis)


@pytest.mark.parametrize("data", KINDS)
def test_scores_are_below_their_bounds(data: str, coding: Coding) -> None:
    generator = np.random.default_rng(5)
    left, right = (unit(vectors(data, size, 256, generator)) for size in (100, 400))
    codes = coding.left(left), coding.right(right)
    bounds, products = coarse(codes[0], [codes[1]], slack=0), coding.multiply(*codes)
    exact = right.astype(np.float64) @ left.astype(np.float64).T
    assert (exact <= products * bounds.scale + bounds.above).all()


@pytest.mark.parametrize("data", KINDS)
def test_bounds_exclude_no_pair_that_reaches_its_floor(data: str, coding: Coding) -> None:
    generator = np.random.default_rng(5)
    left, right = (unit(vectors(data, size, 256, generator)) for size in (100, 400))
    codes = coding.left(left), coding.right(right)
    bounds = coarse(codes[0], [codes[1]], slack=0)
    exact = left.astype(np.float64) @ right.astype(np.float64).T
    floors = exact[np.arange(100), generator.integers(400, size=100)]
    places = reaching(coding.multiply(*codes), bounds.cuts(floors, coding.form)[0])
    right_rows, left_rows = np.divmod(places, 100)
    assert {*zip(*np.nonzero(exact >= floors[:, None]), strict=True)} <= {*zip(left_rows, right_rows, strict=True)}


def test_8_bits_lose_about_a_hundredth() -> None:
    pytest.importorskip("numkong", reason="it has no wheel for this platform")
    some, coding = unit(vectors("random", 400, 512, np.random.default_rng(5))), Int8Coding(np.zeros(512, np.float32))
    right = coding.right(some)
    assert error(coding.left(some), right.length, right.residual).max() < 0.03


def unit(vectors: Vectors) -> Vectors:
    exact = vectors.astype(np.float64)
    return np.asarray(exact / np.linalg.norm(exact, axis=1, keepdims=True), dtype=np.float32)


def test_lengths_are_never_short() -> None:
    some = vectors("random", 500, 3000, np.random.default_rng(1))
    assert (lengths_of(some) >= np.linalg.norm(some.astype(np.float64), axis=1)).all()
