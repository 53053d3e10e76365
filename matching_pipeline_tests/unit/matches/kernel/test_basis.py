"""Directions that hold most of what tells vectors apart."""

import numpy as np
import pytest

from matching_pipeline.matches.kernel import basis
from matching_pipeline.matches.kernel.basis import LOST_BY_CODES, choose_basis
from matching_pipeline_tests.fixtures.vectors import Vectors


@pytest.fixture(autouse=True)
def _choose_for_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(basis, "WORTH_CHOOSING", 0)


def some(noise: float) -> Vectors:
    """Of thirty directions in 256 dimensions, and noise in all of them."""
    generator = np.random.default_rng(3)
    vectors = generator.normal(size=(2000, 30)) @ np.linalg.qr(generator.normal(size=(256, 30)))[0].T
    vectors += noise * generator.normal(size=(2000, 256))
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


def test_as_few_directions_as_leave_out_little() -> None:
    vectors = some(noise=0.01)
    centre = vectors.mean(axis=0)
    chosen = choose_basis(vectors, vectors, centre)
    assert chosen is not None
    assert chosen.directions.shape == (256, 32)
    inside = np.linalg.norm(vectors @ chosen.directions, axis=1)
    assert np.sqrt(np.mean(1 - inside**2)) < np.sqrt(LOST_BY_CODES)
    assert chosen.looseness < 1e-3


def test_none_where_nearly_all_are_needed() -> None:
    vectors = some(noise=1.0)
    assert choose_basis(vectors, vectors, vectors.mean(axis=0)) is None
