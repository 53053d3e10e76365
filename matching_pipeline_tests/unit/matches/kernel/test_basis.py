"""Coordinates and directions that hold most of what tells vectors apart."""

import numpy as np

from matching_pipeline.matches.kernel.basis import principal_directions, strongest_coordinates
from matching_pipeline_tests.fixtures.vectors import Vectors


def some(noise: float) -> Vectors:
    """Vectors with thirty directions in 256 dimensions, and noise in all of them."""
    generator = np.random.default_rng(3)
    vectors = generator.normal(size=(2000, 30)) @ np.linalg.qr(generator.normal(size=(256, 30)))[0].T
    vectors += noise * generator.normal(size=(2000, 256))
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


def test_the_first_directions_hold_nearly_all() -> None:
    vectors = some(noise=0.01)
    directions = principal_directions(vectors, vectors)
    assert directions is not None
    leading = directions.leading(32)
    inside = np.linalg.norm(leading.inside(vectors), axis=1)
    assert np.sqrt(np.mean(1 - inside**2)) < 0.1
    assert leading.looseness < 1e-3


def test_there_are_none_where_vectors_differ_alike_in_all() -> None:
    vectors = some(noise=1.0)
    assert principal_directions(vectors, vectors) is None


def test_the_first_coordinates_are_those_with_the_largest_products() -> None:
    vectors = some(noise=1.0)
    vectors[:, [7, 200]] *= 10
    assert strongest_coordinates(vectors, vectors).leading(2).columns.tolist() == [7, 200]
