"""The provider of each model, by the settings or by name."""

from decimal import Decimal
from typing import Any

import pytest
from pydantic import ValidationError

from matching_pipeline.errors import ConfigurationError
from matching_pipeline.providers.factory import (
    chosen_models,
    image_analyzer,
    image_generator,
    image_provider,
    openai_client,
    picture_provider,
    text_embedder,
    text_provider,
)
from matching_pipeline.providers.openai.names import EmbeddingName, VisionName
from matching_pipeline.providers.openai.prices import embedding_model
from matching_pipeline.settings import Settings

KEY: dict[str, Any] = {"openai_api_key": "sk-test"}


@pytest.mark.parametrize(
    ("changes", "images", "texts", "pictures"),
    [
        ({}, "local", "local", "local"),
        (KEY, "openai", "openai", "openai"),
        ({**KEY, "image_model": "local"}, "local", "openai", "openai"),
        ({**KEY, "text_model": "local"}, "openai", "local", "openai"),
        ({**KEY, "image_generator": "local"}, "openai", "openai", "local"),
        ({"image_model": "openai"}, "openai", "local", "local"),
        ({"image_generator": "openai"}, "local", "local", "openai"),
        ({**KEY, "image_model": "fastembed:a/b", "text_model": "openai:c"}, "fastembed", "openai", "openai"),
    ],
)
def test_a_key_chooses_openai_and_an_explicit_value_wins(
    changes: dict[str, Any], images: str, texts: str, pictures: str
) -> None:
    settings = Settings(**changes)
    assert (image_provider(settings), text_provider(settings), picture_provider(settings)) == (
        images,
        texts,
        pictures,
    )


@pytest.mark.parametrize(
    ("changes", "images", "texts"),
    [
        ({}, "local-visual-2", "local-text-2"),
        (
            {"text_model": "openai:e", "openai_embedding_dimensions": 8, "image_model": "openai:v"},
            "v/describe-1/e:8",
            "e:8",
        ),
        ({"image_model": "fastembed:a/b", "text_model": "fastembed:c"}, "fastembed:a/b", "fastembed:c"),
        ({"image_model": "multimodal:a/b:8"}, "multimodal:a/b:8", "local-text-2"),
        (
            {"text_model": "openai:e@float16", "openai_embedding_dimensions": 8, "image_model": "local@float16"},
            "local-visual-2@float16",
            "e:8@float16",
        ),
        ({"text_model": "fastembed:a/b@float16"}, "local-visual-2", "fastembed:a/b@float16"),
    ],
)
def test_a_setting_names_the_model(changes: dict[str, Any], images: str, texts: str) -> None:
    assert chosen_models(Settings(**changes)) == {"image": images, "text": texts}


@pytest.mark.parametrize(
    "choice", ["", "foo", "openai:", "fastembed", "fastembed:", "local:x", "openai:a b", "multimodal:a:8"]
)
def test_any_other_choice_is_refused(choice: str) -> None:
    with pytest.raises(ValidationError, match="text_model"):
        Settings(text_model=choice)


def test_the_local_providers_need_no_database() -> None:
    with image_analyzer(Settings(), "nowhere", "image_ai") as analyzer:
        assert analyzer.model.startswith("local")
    with text_embedder(Settings(), "nowhere", "job_embeddings") as embedder:
        assert embedder.model.startswith("local")
    with image_generator(Settings(), "nowhere", "generated_images") as generator:
        assert generator.model.startswith("local")


def test_openai_without_a_key_names_the_setting() -> None:
    settings = Settings(image_model="openai")
    with pytest.raises(ConfigurationError, match="OPENAI_API_KEY"), openai_client(settings, "nowhere", "image_ai"):
        pass


def test_a_name_holds_its_models() -> None:
    name = VisionName("meta/llama-4", "describe-1", EmbeddingName("BAAI/bge-m3:latest", 1024))
    assert VisionName.parse(str(name)) == name
    assert EmbeddingName.parse(str(name.embedding)) == name.embedding
    assert EmbeddingName.parse("local-text-2") is None
    assert VisionName.parse("local-visual-2") is None


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("m/describe-0/e:8", "the prompt describe-0, which this version does not have"),
        ("given", "no provider here makes the image model 'given'"),
        ("text-embedding-3-small:8", "no provider here makes the image model"),
    ],
)
def test_a_model_that_cannot_be_made_is_named(model: str, message: str) -> None:
    with (
        pytest.raises(ConfigurationError, match=message),
        image_analyzer(Settings(**KEY), "nowhere", "image_ai", model),
    ):
        pass


def test_the_settings_price_is_that_of_their_model_and_others_have_their_own() -> None:
    settings = Settings(openai_embedding_model="mine", openai_embedding_usd_per_million_tokens=7)
    prices = {
        name: embedding_model(settings, name).input_price for name in ("mine", "text-embedding-3-large", "unknown")
    }
    assert prices == {"mine": 7, "text-embedding-3-large": Decimal("0.13"), "unknown": 7}


def test_no_setting_shows_the_key() -> None:
    assert "sk-test" not in repr(Settings(**KEY))
