"""The `local` text embedder: words that are shared, not what they mean."""

import numpy as np
import pytest

from matching_pipeline.ai.local_text import LocalTextEmbedder
from matching_pipeline.failures import PermanentFailure


def embed(text: str) -> np.ndarray:
    (vector,) = LocalTextEmbedder().embed([text])
    assert isinstance(vector, np.ndarray)
    return vector


def test_an_embedding_is_of_unit_length_and_the_same_from_run_to_run() -> None:
    vector = embed("You bake bread, early in the morning")
    assert vector.dtype == np.float32
    assert vector.shape == (LocalTextEmbedder.dimensions,)
    assert np.linalg.norm(vector) == pytest.approx(1)
    assert np.flatnonzero(embed("bread")).tolist() == [20]


def test_texts_that_share_words_come_close() -> None:
    own = embed("Baker of bread")
    assert own @ embed("BREAD, baker!") > 0.7 > own @ embed("Nurse of children")


@pytest.mark.parametrize("text", ["", "!?", " \n"])
def test_a_text_without_words_is_refused(text: str) -> None:
    (answer,) = LocalTextEmbedder().embed([text])
    assert isinstance(answer, PermanentFailure)
