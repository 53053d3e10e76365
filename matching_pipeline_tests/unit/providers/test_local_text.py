"""The local embedder: similarity of words."""

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


def test_texts_that_share_words_are_nearer_than_those_that_do_not() -> None:
    one, near, far = embed(
        "Senior Python developer for data pipelines, remote",
        "We look for a developer of Python pipelines",
        "Head gardener for a castle park with roses",
    )
    assert one @ near > 0.25 > one @ far
    assert abs(one @ far) < 0.15


def test_a_word_in_another_form_is_still_near() -> None:
    one, near, far = embed("gardening", "gardener", "accounting")
    assert one @ near > one @ far + 0.1


@pytest.mark.parametrize("text", ["", " \n\t", "…"])
def test_a_text_without_words_fails(text: str) -> None:
    (answer,) = EMBEDDER.embed([text])
    assert isinstance(answer, PermanentFailure) or text == "…"


@settings(deadline=None, max_examples=50)
@given(st.lists(st.text(max_size=200), max_size=5))
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
