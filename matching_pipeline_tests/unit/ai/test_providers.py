"""Who does what, by the settings."""

from typing import Any

import pytest

from matching_pipeline.ai.providers import image_analyzer, image_provider, openai_client, text_embedder, text_provider
from matching_pipeline.failures import ConfigurationError
from matching_pipeline.settings import Settings

KEY: dict[str, Any] = {"openai_api_key": "sk-test"}


@pytest.mark.parametrize(
    ("changes", "images", "texts"),
    [
        ({}, "local", "local"),
        (KEY, "openai", "openai"),
        ({**KEY, "image_analyzer": "local"}, "local", "openai"),
        ({**KEY, "text_embedder": "local"}, "openai", "local"),
        ({"image_analyzer": "openai"}, "openai", "local"),
    ],
)
def test_a_key_chooses_openai_and_an_explicit_value_wins(changes: dict[str, Any], images: str, texts: str) -> None:
    settings = Settings(**changes)
    assert (image_provider(settings), text_provider(settings)) == (images, texts)


def test_the_local_providers_need_no_database() -> None:
    with image_analyzer(Settings(), "nowhere", "image_ai") as analyzer:
        assert analyzer.model.startswith("local")
    with text_embedder(Settings(), "nowhere", "job_embeddings") as embedder:
        assert embedder.model.startswith("local")


def test_openai_without_a_key_names_the_setting() -> None:
    settings = Settings(image_analyzer="openai")
    with pytest.raises(ConfigurationError, match="OPENAI_API_KEY"), openai_client(settings, "nowhere", "image_ai"):
        pass


def test_no_setting_shows_the_key() -> None:
    assert "sk-test" not in repr(Settings(**KEY))
