"""Makes the provider of a model by the model's name, or the provider that the settings choose."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal, NamedTuple, Protocol, cast, runtime_checkable

from matching_pipeline.errors import ConfigurationError
from matching_pipeline.providers.answer_cache import AnswerCache
from matching_pipeline.providers.budget import Budget
from matching_pipeline.providers.call_log import CallLog
from matching_pipeline.providers.fastembed import PREFIX as FASTEMBED
from matching_pipeline.providers.fastembed import (
    WORDS,
    FastembedImageAnalyzer,
    FastembedSharedAnalyzer,
    FastembedTextEmbedder,
)
from matching_pipeline.providers.local.analyzer import LocalImageAnalyzer
from matching_pipeline.providers.local.generator import LocalImageGenerator
from matching_pipeline.providers.local.text import LocalTextEmbedder
from matching_pipeline.providers.openai.client import OpenAIClient
from matching_pipeline.providers.openai.embeddings import OpenAITextEmbedder
from matching_pipeline.providers.openai.multimodal import MultimodalAnalyzer, MultimodalName
from matching_pipeline.providers.openai.names import EmbeddingName, VisionName
from matching_pipeline.providers.openai.pictures import OpenAIImageGenerator
from matching_pipeline.providers.openai.prices import embedding_model, image_model, vision_model
from matching_pipeline.providers.openai.vision import PROMPT_VERSION, OpenAIImageAnalyzer
from matching_pipeline.providers.protocols import FLOAT16, ImageAnalyzer, ImageGenerator, TextEmbedder
from matching_pipeline.providers.session import ReconnectingSession
from matching_pipeline.providers.single_flight import SingleFlight
from matching_pipeline.settings import Settings

Provider = Literal["openai", "local", "fastembed", "multimodal"]
Modality = Literal["image", "text"]


@runtime_checkable
class Probed(Protocol):
    """A provider with a server behind it."""

    def probe(self) -> None: ...


@runtime_checkable
class Priced(Protocol):
    """A provider that costs money."""

    def price(self, inputs: Sequence[str]) -> Decimal:
        """About what it costs, in USD, to embed these texts, or the pictures of these URLs."""
        ...


@dataclass
class WorkingModel:
    """A model whose provider can be made here and, if it has a server, has answered."""

    model: str
    dimensions: int


def image_provider(settings: Settings) -> Provider:
    return _provider(settings.image_model, settings)


def text_provider(settings: Settings) -> Provider:
    return _provider(settings.text_model, settings)


def picture_provider(settings: Settings) -> Provider:
    return _provider(settings.image_generator, settings)


def chosen_models(settings: Settings) -> dict[Modality, str]:
    """The names of the models that the settings choose."""
    images = {"local": LocalImageAnalyzer.model, "openai": str(_chosen_vision(settings))}
    texts = {"local": LocalTextEmbedder.model, "openai": str(_chosen_embedding(settings))}
    image, text = _halved(settings.image_model), _halved(settings.text_model)
    return {
        "image": images.get(image_provider(settings), image.name) + image.suffix,
        "text": texts.get(text_provider(settings), text.name) + text.suffix,
    }


@contextmanager
def image_analyzer(
    settings: Settings, database_url: str, queue: str, model: str | None = None
) -> Iterator[ImageAnalyzer]:
    """The analyzer of this name or of the settings' choice. The call log records its requests under the queue."""
    named = _halved(model or chosen_models(settings)["image"])
    with _image_analyzer(settings, database_url, queue, named.name) as analyzer:
        analyzer.model = named.name + named.suffix
        yield analyzer


@contextmanager
def _image_analyzer(settings: Settings, database_url: str, queue: str, model: str) -> Iterator[ImageAnalyzer]:
    if model == LocalImageAnalyzer.model:
        yield LocalImageAnalyzer()
    elif model.startswith(FASTEMBED):
        bare = model.removeprefix(FASTEMBED)
        analyzer = FastembedSharedAnalyzer if bare in WORDS else FastembedImageAnalyzer
        yield analyzer(bare, settings.fastembed_folder)
    elif shared := MultimodalName.parse(model):
        with openai_client(settings, database_url, queue) as client:
            priced = embedding_model(settings, shared.embedding.model)
            yield MultimodalAnalyzer(client, priced, shared.embedding.dimensions, settings.multimodal_input)
    elif name := VisionName.parse(model):
        with openai_client(settings, database_url, queue) as client:
            yield openai_image_analyzer(settings, client, name)
    else:
        raise ConfigurationError(f"embedding_models: no provider here makes the image model {model!r}")


@contextmanager
def text_embedder(
    settings: Settings, database_url: str, queue: str, model: str | None = None
) -> Iterator[TextEmbedder]:
    """The embedder of this name or of the settings' choice. The call log records its requests under the queue."""
    named = _halved(model or chosen_models(settings)["text"])
    with _text_embedder(settings, database_url, queue, named.name) as embedder:
        embedder.model = named.name + named.suffix
        yield embedder


@contextmanager
def _text_embedder(settings: Settings, database_url: str, queue: str, model: str) -> Iterator[TextEmbedder]:
    if model == LocalTextEmbedder.model:
        yield LocalTextEmbedder()
    elif model.startswith(FASTEMBED):
        yield FastembedTextEmbedder(model.removeprefix(FASTEMBED), settings.fastembed_folder)
    elif (name := EmbeddingName.parse(model)) and not VisionName.parse(model):
        with openai_client(settings, database_url, queue) as client:
            yield openai_text_embedder(settings, client, name)
    else:
        raise ConfigurationError(f"embedding_models: no provider here makes the text model {model!r}")


@contextmanager
def image_generator(settings: Settings, database_url: str, queue: str) -> Iterator[ImageGenerator]:
    """The generator of the settings' choice. The call log records its requests under the queue."""
    if picture_provider(settings) == "local":
        yield LocalImageGenerator()
    else:
        with openai_client(settings, database_url, queue) as client:
            yield openai_image_generator(settings, client)


def require_working(
    settings: Settings, database_url: str, queue: str, modality: Modality, model: str
) -> WorkingModel:
    """Makes a real request if the model has a server; raises the fault, if any."""
    open_provider = image_analyzer if modality == "image" else text_embedder
    with open_provider(settings, database_url, queue, model) as provider:
        if isinstance(provider, Probed):
            provider.probe()
        return WorkingModel(provider.model, provider.dimensions)


def price(
    settings: Settings, database_url: str, queue: str, modality: Modality, model: str, inputs: Sequence[str]
) -> Decimal:
    """About what it costs, in USD, to embed equal texts once, or the pictures of these URLs."""
    open_provider = image_analyzer if modality == "image" else text_embedder
    with open_provider(settings, database_url, queue, model) as provider:
        return provider.price(list(dict.fromkeys(inputs))) if isinstance(provider, Priced) else Decimal(0)


@contextmanager
def openai_client(settings: Settings, database_url: str, queue: str) -> Iterator[OpenAIClient]:
    if settings.openai_api_key is None:
        raise ConfigurationError("OPENAI_API_KEY is not set; for a server that needs no key, set any word")
    with ReconnectingSession(database_url) as session:
        cache = AnswerCache(session)
        with OpenAIClient(
            settings.openai_api_key.get_secret_value(),
            settings.openai_base_url,
            settings.openai_timeout_seconds,
            settings.openai_concurrency,
            CallLog(session, cache, queue, Budget(session, settings.ai_daily_budget_usd)),
            SingleFlight(session, cache),
        ) as client:
            yield client


def openai_text_embedder(
    settings: Settings, client: OpenAIClient, name: EmbeddingName | None = None
) -> OpenAITextEmbedder:
    name = name or _chosen_embedding(settings)
    model = embedding_model(settings, name.model)
    return OpenAITextEmbedder(client, model, name.dimensions, settings.openai_embedding_max_tokens)


def openai_image_analyzer(
    settings: Settings, client: OpenAIClient, name: VisionName | None = None
) -> OpenAIImageAnalyzer:
    name = name or _chosen_vision(settings)
    effort = settings.openai_vision_reasoning_effort
    embedder = openai_text_embedder(settings, client, name.embedding)
    return OpenAIImageAnalyzer(client, vision_model(settings, name.model), embedder, _said(effort), name.prompt)


def openai_image_generator(settings: Settings, client: OpenAIClient) -> OpenAIImageGenerator:
    quality = _said(settings.openai_image_quality)
    return OpenAIImageGenerator(client, image_model(settings), quality, settings.openai_image_timeout_seconds)


def _said(value: str) -> str | None:
    return None if value == "unsaid" else value


def _chosen_embedding(settings: Settings) -> EmbeddingName:
    name = _named(settings.text_model) or settings.openai_embedding_model
    return EmbeddingName(name, settings.openai_embedding_dimensions)


def _chosen_vision(settings: Settings) -> VisionName:
    name = _named(settings.image_model) or settings.openai_vision_model
    return VisionName(name, PROMPT_VERSION, _chosen_embedding(settings))


def embeds_words(model: str) -> bool:
    """Says by its name whether a model of pictures embeds words too."""
    name = _halved(model).name
    return name != LocalImageAnalyzer.model and (
        not name.startswith(FASTEMBED) or name.removeprefix(FASTEMBED) in WORDS
    )


class _Halved(NamedTuple):
    name: str
    suffix: str
    """FLOAT16, or nothing"""


def _halved(model: str | None) -> _Halved:
    name = (model or "").removesuffix(FLOAT16)
    return _Halved(name, (model or "")[len(name) :])


def _named(choice: str | None) -> str | None:
    """The model of OpenAI's that a setting names."""
    provider, _, name = _halved(choice).name.partition(":")
    return name if provider == "openai" and name else None


def _provider(choice: str | None, settings: Settings) -> Provider:
    name = _halved(choice).name.partition(":")[0]
    return cast(Provider, name or ("openai" if settings.openai_api_key else "local"))
