"""Which provider does what, by the settings."""

from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import TYPE_CHECKING, Literal

from matching_pipeline.ai.ledger import Ledger
from matching_pipeline.ai.protocols import ImageAnalyzer, TextEmbedder
from matching_pipeline.failures import ConfigurationError
from matching_pipeline.settings import Settings

if TYPE_CHECKING:
    from matching_pipeline.ai.openai.client import OpenAIClient
    from matching_pipeline.ai.openai.embeddings import OpenAITextEmbedder
    from matching_pipeline.ai.openai.vision import OpenAIImageAnalyzer

Provider = Literal["openai", "local"]


def image_provider(settings: Settings) -> Provider:
    return settings.image_analyzer or _default(settings)


def text_provider(settings: Settings) -> Provider:
    return settings.text_embedder or _default(settings)


@contextmanager
def image_analyzer(settings: Settings, database_url: str, lane: str) -> Iterator[ImageAnalyzer]:
    """What it asks of a provider is written into the database's ledger, for the lane."""
    if image_provider(settings) == "local":
        from matching_pipeline.ai.local import LocalImageAnalyzer

        yield LocalImageAnalyzer()
    else:
        with openai_client(settings, database_url, lane) as client:
            yield openai_image_analyzer(settings, client)


@contextmanager
def text_embedder(settings: Settings, database_url: str, lane: str) -> Iterator[TextEmbedder]:
    """What it asks of a provider is written into the database's ledger, for the lane."""
    if text_provider(settings) == "local":
        from matching_pipeline.ai.local_text import LocalTextEmbedder

        yield LocalTextEmbedder()
    else:
        with openai_client(settings, database_url, lane) as client:
            yield openai_text_embedder(settings, client)


@contextmanager
def openai_client(settings: Settings, database_url: str, lane: str) -> Iterator["OpenAIClient"]:
    # the client takes most of a second to import
    from matching_pipeline.ai.openai.client import OpenAIClient

    if settings.openai_api_key is None:
        raise ConfigurationError("OPENAI_API_KEY is not set; a server that needs no key takes any word for one")
    with (
        Ledger(database_url, lane, settings.ai_daily_budget_usd) as ledger,
        OpenAIClient(
            settings.openai_api_key.get_secret_value(),
            settings.openai_base_url,
            settings.openai_timeout_seconds,
            settings.openai_concurrency,
            ledger,
        ) as client,
    ):
        yield client


def openai_text_embedder(settings: Settings, client: "OpenAIClient") -> "OpenAITextEmbedder":
    from matching_pipeline.ai.openai.client import Model
    from matching_pipeline.ai.openai.embeddings import OpenAITextEmbedder

    price = Decimal(str(settings.openai_embedding_price))
    model = Model(settings.openai_embedding_model, "OPENAI_EMBEDDING_MODEL", price)
    return OpenAITextEmbedder(
        client, model, settings.openai_embedding_dimensions, settings.openai_embedding_max_tokens
    )


def openai_image_analyzer(settings: Settings, client: "OpenAIClient") -> "OpenAIImageAnalyzer":
    from matching_pipeline.ai.openai.client import Model
    from matching_pipeline.ai.openai.vision import OpenAIImageAnalyzer

    prices = Decimal(str(settings.openai_vision_input_price)), Decimal(str(settings.openai_vision_output_price))
    model = Model(settings.openai_vision_model, "OPENAI_VISION_MODEL", *prices)
    effort = None if settings.openai_vision_effort == "unsaid" else settings.openai_vision_effort
    return OpenAIImageAnalyzer(client, model, openai_text_embedder(settings, client), effort)


def _default(settings: Settings) -> Provider:
    return "openai" if settings.openai_api_key else "local"
