"""Images that are held are those that were given, and `near` leaves out none that may match."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matching_pipeline.matches.kernel.columns import Ids
from matching_pipeline.matches.kernel.held import HeldImages
from matching_pipeline.matches.kernel.images import ImageSet, image_set
from matching_pipeline.matches.kernel.policy import Policy
from matching_pipeline.matches.kernel.search import best_pairs
from matching_pipeline_tests.fixtures.vectors import KINDS, vectors


def ids(numbers: list[int]) -> Ids:
    return np.frombuffer(b"".join(number.to_bytes(16, "big") for number in numbers), dtype="S16")


def an_image_set(entities: list[int], kind: str, generator: np.random.Generator) -> ImageSet:
    """One image of each entity for each time that it is named."""
    entities = sorted(entities)
    tokens = [frozenset(map(str, generator.integers(4, size=2))) for _ in entities]
    embeddings = vectors(kind, len(entities), 3, generator)
    return image_set(ids(entities), ids(list(range(len(entities)))), embeddings, tokens)


def rows(images: ImageSet) -> list[tuple[bytes, list[float], frozenset[str]]]:
    owners = images.entities[images.entity_of_row].tolist()
    return sorted(zip(owners, images.embeddings.tolist(), images.tokens, strict=True), key=repr)


numbers = st.lists(st.integers(0, 5), max_size=8)


@given(first=numbers.filter(bool), changes=st.lists(st.tuples(st.sets(st.integers(0, 5)), numbers), max_size=4))
@settings(deadline=None)
def test_replaced_images_are_held_in_place_of_the_former(
    first: list[int], changes: list[tuple[set[int], list[int]]]
) -> None:
    generator = np.random.default_rng(1)
    images = an_image_set(first, "random", generator)
    held, expected = HeldImages(images), rows(images)
    for gone, added in changes:
        if not gone:
            continue
        new = an_image_set([number for number in added if number in gone], "random", generator)
        assert held.replace(ids(sorted(gone)), new)
        left = [row for row in expected if row[0] not in ids(sorted(gone)).tolist()]
        expected = sorted([*left, *rows(new)], key=repr)
        everything = held.near(images, Policy(threshold=-1.0, attribute_weight=0.0))
        assert (len(held), rows(everything)) == (len(expected), expected)


def test_without_room_nothing_is_replaced() -> None:
    generator = np.random.default_rng(1)
    images = an_image_set([1, 2, 3], "random", generator)
    held = HeldImages(images)
    assert not held.replace(ids([1]), an_image_set([1] * 500, "random", generator))
    assert rows(held.near(images, Policy(threshold=-1.0))) == rows(images)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("weight", [0.0, 0.2])
@pytest.mark.parametrize("threshold", [0.0, 0.5, 0.9])
def test_lists_over_near_images_are_those_over_all(kind: str, weight: float, threshold: float) -> None:
    generator = np.random.default_rng(3)
    others = an_image_set(sorted(generator.integers(200, size=400).tolist()), kind, generator)
    sought = an_image_set([7, 7, 9], kind, generator)
    policy = Policy(threshold, 5, weight)
    near = HeldImages(others).near(sought, policy)
    wanted, found = best_pairs(sought, [others], policy), best_pairs(sought, [near], policy)
    for column, expected in zip(vars(found).values(), vars(wanted).values(), strict=True):
        np.testing.assert_array_equal(column, expected)


def test_few_others_are_near() -> None:
    generator = np.random.default_rng(3)
    others = image_set(ids(list(range(500))), ids(list(range(500))), vectors("random", 500, 64, generator))
    sought = image_set(ids([1]), ids([1]), others.embeddings[7:8])
    assert len(HeldImages(others).near(sought, Policy(threshold=0.9, attribute_weight=0.0)).image_ids) == 1


def test_nothing_is_near_to_no_images() -> None:
    held = HeldImages(an_image_set([0, 1], "random", np.random.default_rng(1)))
    nobody = image_set(ids([]), ids([]), np.empty((0, 0), np.float32), [])
    assert len(held.near(nobody, Policy(threshold=-1.0)).image_ids) == 0
