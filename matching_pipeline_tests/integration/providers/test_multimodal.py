"""Pictures go to a server with a model of pictures and words, in each form that servers take."""

from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from matching_pipeline.db.connections import Connection
from matching_pipeline.errors import ConfigurationError, PermanentFailure
from matching_pipeline.providers.factory import image_analyzer
from matching_pipeline.providers.protocols import EmbedsWords
from matching_pipeline.settings import Settings
from matching_pipeline_tests.fixtures.openai_models import MULTIMODAL_MODEL, Refusal
from matching_pipeline_tests.fixtures.openai_server import Fault, OpenAIServer

NAME = f"multimodal:{MULTIMODAL_MODEL}:8"
OpenSettings = Callable[..., Settings]


@pytest.mark.parametrize("form", ["messages", "objects", "modality"])
def test_a_picture_has_a_vector_that_is_asked_for_once(
    connection: Connection, database_url: str, server: OpenAIServer, settings_for: OpenSettings, form: str
) -> None:
    settings = settings_for(image_model=NAME, multimodal_input=form)
    with image_analyzer(settings, database_url, "image_ai") as analyzer:
        assert (analyzer.model, analyzer.dimensions) == (NAME, 8)
        red, again, pink, blue = (
            analyzer.analyze(Image.new("RGB", (90, 60), color)) for color in ("red", "red", "#ff4060", "blue")
        )
    assert np.array_equal(red.embedding, again.embedding)
    assert red.embedding @ pink.embedding > red.embedding @ blue.embedding
    assert red.attributes["colors"] == ["red"]
    assert server.asked["/embeddings"] == 3


def test_words_are_embedded_into_the_space_of_the_pictures(
    connection: Connection, database_url: str, settings_for: OpenSettings
) -> None:
    with image_analyzer(settings_for(image_model=NAME), database_url, "image_ai") as analyzer:
        assert isinstance(analyzer, EmbedsWords)
        red = analyzer.analyze(Image.new("RGB", (90, 60), "red")).embedding
        assert red @ analyzer.embed_words("red") > red @ analyzer.embed_words("blue")


def test_other_dimensions_stop_the_queue(
    connection: Connection, database_url: str, settings_for: OpenSettings
) -> None:
    settings = settings_for(image_model=f"multimodal:{MULTIMODAL_MODEL}:16")
    with (
        image_analyzer(settings, database_url, "image_ai") as analyzer,
        pytest.raises(ConfigurationError, match="gives 8 dimensions, not 16"),
    ):
        analyzer.analyze(Image.new("RGB", (90, 60), "red"))


def test_a_picture_that_is_too_large_fails_and_is_not_cut(
    connection: Connection, database_url: str, server: OpenAIServer, settings_for: OpenSettings
) -> None:
    too_long = "This model's maximum context length is 512 tokens, however you requested 900 tokens"
    server.faults.append(Fault(Refusal(400, too_long)))
    with (
        image_analyzer(settings_for(image_model=NAME), database_url, "image_ai") as analyzer,
        pytest.raises(PermanentFailure, match="maximum context length"),
    ):
        analyzer.analyze(Image.new("RGB", (90, 60), "red"))
