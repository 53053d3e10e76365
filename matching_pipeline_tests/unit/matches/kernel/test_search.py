"""The search finds what all scores in float64 give, with and without NumKong, whatever the data."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from matching_pipeline.matches.kernel import choice, products, search, seeds
from matching_pipeline.matches.kernel.images import ImageSet, Scorer, _row_products, image_set
from matching_pipeline.matches.kernel.pairs import Found, Pairs, ranked
from matching_pipeline.matches.kernel.tally import Tally
from matching_pipeline.matches.kernel.tiles import spans
from matching_pipeline_tests.fixtures.vectors import KINDS, Vectors, vectors

PLAIN: dict[str, Any] = {"dimensions": 80, "groups": (1, 1), "weight": 0.0, "vocabulary": 5, "threshold": -1.0}
"""One image an entity, without attributes."""


def numbered(numbers: NDArray[np.intp]) -> NDArray[np.bytes_]:
    return np.frombuffer(b"".join(int(number).to_bytes(16, "big") for number in numbers), dtype="S16")


def an_image_set(embeddings: Vectors, group: int, tokens: list[frozenset[str]]) -> ImageSet:
    rows = np.arange(len(embeddings))
    return image_set(numbered(rows // group), numbered(rows), embeddings, tokens)


def words(count: int, vocabulary: int, generator: np.random.Generator) -> list[frozenset[str]]:
    return [frozenset(map(str, generator.integers(vocabulary, size=generator.integers(6)))) for _ in range(count)]


def parts_of(images: ImageSet, rows: int) -> Iterator[ImageSet]:
    for span in spans(images, rows):
        yield ImageSet(
            images.entities[span.entities],
            images.starts[span.entities] - span.rows.start,
            images.image_ids[span.rows],
            images.embeddings[span.rows],
            images.tokens[span.rows],
        )


def expected_pairs(left: ImageSet, right: ImageSet, weight: float, floors: Any, limit: int | None) -> Pairs:
    a, b = np.divmod(np.arange(len(left.image_ids) * len(right.image_ids)), len(right.image_ids))
    found = Found(left.entity_of_row[a], right.entity_of_row[b], Scorer(left, right, weight).exact(a, b), a, b)
    found = ranked(found.take(found.similarity >= floors[found.left]), limit, several=True)
    return Pairs(
        left.entities[found.left],
        right.entities[found.right],
        found.similarity,
        left.image_ids[found.left_row],
        right.image_ids[found.right_row],
    )


@pytest.mark.parametrize("dimensions", [100, 9000])
def test_a_score_depends_on_its_two_images_only(dimensions: int) -> None:
    embeddings = vectors("random", 9, dimensions, np.random.default_rng(1))
    images, rows = an_image_set(embeddings, 1, [frozenset()] * 9), np.arange(9)
    alone = [an_image_set(embeddings[row : row + 1], 1, [frozenset()]) for row in rows]
    assert images.norms.tolist() == [each.norms[0] for each in alone]
    together = _row_products(embeddings, embeddings, rows, rows[::-1], np.float64)
    single = [_row_products(embeddings, embeddings, rows[[row]], 8 - rows[[row]], np.float64)[0] for row in rows]
    assert together.tolist() == single


@pytest.fixture(params=["numkong", "numpy"], scope="module")
def library(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "numkong":
        pytest.importorskip("numkong", reason="it has no wheel for this platform")
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "numpy":
            patch.setattr(search, "costs", lambda: products.Costs(code=None, float32=3e-12))
        else:
            patch.setattr(search, "costs", lambda: products.Costs(code=1e-12, float32=3e-12))
        yield request.param


@given(
    kinds=st.tuples(st.sampled_from(KINDS), st.sampled_from(KINDS)),
    sizes=st.tuples(st.integers(1, 90), st.integers(1, 300)),
    dimensions=st.sampled_from([1, 3, 80, 160]),
    groups=st.tuples(st.sampled_from([1, 1, 2, 4, 90]), st.sampled_from([1, 1, 2, 7, 300])),
    weight=st.sampled_from([0.0, 0.0, 0.2, 1.0]),
    vocabulary=st.sampled_from([5, 2000]),
    threshold=st.sampled_from([-1.0, 0.3, 0.9]),
    limit=st.sampled_from([1, 5, 400, None]),
    part=st.sampled_from([70, 1000]),
    seed=st.integers(0, 1000),
)
@settings(deadline=None, max_examples=100)
@example(  # a pair waits from a tile of loose bounds while those of the next tile are float64 scores
    kinds=("random", "random"),
    sizes=(1, 33),
    limit=1,
    part=70,
    seed=45,
    **PLAIN,
)
@example(  # lists are full of ties, and the one with the lowest id has a worse bound than the others
    kinds=("copies", "copies"),
    sizes=(16, 300),
    limit=5,
    part=1000,
    seed=38,
    **PLAIN,
)
def test_pairs_are_those_of_all_scores(
    library: str,
    kinds: tuple[str, str],
    sizes: tuple[int, int],
    dimensions: int,
    groups: tuple[int, int],
    weight: float,
    vocabulary: int,
    threshold: float,
    limit: int | None,
    part: int,
    seed: int,
) -> None:
    generator = np.random.default_rng(seed)
    left, right = (
        an_image_set(vectors(kind, size, dimensions, generator), group, words(size, vocabulary, generator))
        for kind, size, group in zip(kinds, sizes, groups, strict=True)
    )
    floors = np.full(len(left.entities), threshold)
    with pytest.MonkeyPatch.context() as patch:
        # small, so that a few hundred rows are many tiles
        for few in ("FEW_SCORES", "FEW_FLOAT_SCORES", "FEW_SCORES_WITH_WORDS"):
            patch.setattr(search, few, 0 if seed % 5 else 10**9)
        patch.setattr(search, "LEFT_ROWS", 16)
        patch.setattr(search, "RIGHT_ROWS", 32)
        patch.setattr(search, "FEW_TILE_SCORES", 1600)
        patch.setattr(search, "MOST_REACHED", 100)
        patch.setattr(search, "MOST_WAITING", 300)
        patch.setattr(search, "WAITING", 2)
        patch.setattr(search, "PHASES", (1, 2, 5))
        patch.setattr(choice, "WORTH_CHOOSING", 0)
        patch.setattr(choice, "WORTH_DIRECTIONS", 0)
        patch.setattr(choice, "NEAR_SECONDS", 0.9e-9 if seed % 3 else 0)
        patch.setattr(choice, "STEP", 20)
        patch.setattr(seeds, "LEFT_ROWS", 2)
        patch.setattr(seeds, "COMPARED", 2)
        patch.setattr(seeds, "CHUNK_ROWS", 20)
        patch.setattr(search, "CROWDED", 0.05 if seed % 2 else 2.0)
        found = search.search(left, parts_of(right, part), weight, floors, limit)
    expected = expected_pairs(left, right, weight, floors, limit)
    for column, wanted in zip(vars(found).values(), vars(expected).values(), strict=True):
        np.testing.assert_array_equal(column, wanted)


def test_a_tile_of_loose_bounds_raises_the_floors_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    # floors that are found beforehand lack the overlaps of attributes
    monkeypatch.setattr(search, "FEW_SCORES_WITH_WORDS", 0)
    generator, tally = np.random.default_rng(1), Tally()
    left, right = (
        an_image_set(vectors("random", size, 80, generator), 1, words(size, 2000, generator)) for size in (20, 8192)
    )
    search.search(left, [right], 0.5, np.full(20, -1.0), 5, tally)
    assert tally.finer == 20 * search.RIGHT_ROWS


def test_a_tie_of_a_tile_with_few_pairs_comes_before_those_of_a_later_tile_with_many(
    library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"FEW_SCORES": 0, "FEW_FLOAT_SCORES": 0, "RIGHT_ROWS": 32, "MOST_WAITING": 300}.items():
        monkeypatch.setattr(search, name, value)
    same = np.tile(np.eye(1, 80, dtype=np.float32), (33, 1))
    others = vectors("random", 31, 80, np.random.default_rng(1))
    left = an_image_set(same[:16], 1, [frozenset()] * 16)
    right = an_image_set(np.concatenate([same[:1], others, same[1:]]), 1, [frozenset()] * 64)
    found = search.search(left, [right], 0.0, np.full(16, -1.0), 1)
    assert found.right.tolist() == [right.entities[0]] * 16
