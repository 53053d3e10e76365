"""The local embedder: similarity of meaning."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from matching_pipeline.errors import PermanentFailure
from matching_pipeline.providers.local.text import LocalTextEmbedder

EMBEDDER = LocalTextEmbedder()


def embed(*texts: str) -> NDArray[np.float32]:
    answers = EMBEDDER.embed(texts)
    return np.stack([answer for answer in answers if isinstance(answer, np.ndarray)])


@pytest.mark.parametrize(
    ("text", "near", "far"),
    [
        ("Registered nurse", "Hospital bedside staff", "Truck haulier"),
        ("Senior Python developer, remote", "Backend software engineer", "Head gardener for a castle park"),
        ("gardening", "gardener", "accounting"),
    ],
)
def test_texts_of_one_meaning_are_nearer_than_others(text: str, near: str, far: str) -> None:
    one, other, another = embed(text, near, far)
    assert one @ other > one @ another + 0.1


def test_the_end_of_a_long_text_is_embedded_in_a_part_of_its_own() -> None:
    first, *_, last = EMBEDDER.parts("We bake bread and cakes. " * 60 + "We write software in Python. " * 60)
    programmer, begin, end = embed("Software engineer", first, last)
    assert programmer @ end > programmer @ begin + 0.1


@pytest.mark.parametrize("text", ["", " \n\t", "\u200b"])
def test_a_text_without_words_fails(text: str) -> None:
    (answer,) = EMBEDDER.embed([text])
    assert isinstance(answer, PermanentFailure)


@settings(deadline=None, max_examples=20)
@given(st.lists(st.text(max_size=80), max_size=3))
def test_a_text_has_the_same_unit_vector_alone_and_in_company(texts: list[str]) -> None:
    for text, together in zip(texts, EMBEDDER.embed(texts), strict=True):
        (alone,) = EMBEDDER.embed([text])
        if isinstance(together, np.ndarray) and isinstance(alone, np.ndarray):
            assert together.dtype == np.float32
            assert together.shape == (EMBEDDER.dimensions,)
            assert np.linalg.norm(together) == pytest.approx(1, abs=1e-5)
            assert np.array_equal(together, alone)
        else:
            assert type(together) is type(alone) is PermanentFailure
