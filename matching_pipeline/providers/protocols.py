"""The capabilities of providers, each a protocol."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, Protocol, runtime_checkable
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from matching_pipeline.errors import JobFailure, Stop

FLOAT16: Final = "@float16"


@dataclass(frozen=True)
class ImageAnalysis:
    """The analysis of one picture.

    `embedding` is float32 of shape (dimensions,), finite and of unit length: a dot product is a cosine.
    `attributes` can be written as JSON: each value is a short string or a list of short strings.
    If a vision model described the picture, the other fields name it and the tokens that it took.
    """

    embedding: NDArray[np.float32]
    attributes: dict[str, str | list[str]]
    vision_model: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None


class EmbeddingProvider(Protocol):
    """`model` names the vector space: it changes whenever the same input would get another vector.

    If the model's name ends in FLOAT16, the database keeps its vectors in half precision.
    """

    model: str
    dimensions: int


def same_vectors(provider: EmbeddingProvider) -> list[str]:
    """The models whose vectors the provider's model may take: its own, and the same ones before they are rounded."""
    return list({provider.model, provider.model.removesuffix(FLOAT16)})


class ImageAnalyzer(EmbeddingProvider, Protocol):
    """Turns a decoded picture (mode RGB, upright) into an embedding and attributes."""

    concurrency: int
    """One process gains by analysing so many pictures at once."""

    def analyze(self, picture: Image.Image) -> ImageAnalysis: ...


@runtime_checkable
class EmbedsWords(Protocol):
    """A provider that embeds words into its space, a space of pictures too, past all caches."""

    def embed_words(self, words: str) -> NDArray[np.float32]:
        """Raises the failure or the Stop."""
        ...


@runtime_checkable
class AnalyzesAgain(Protocol):
    """An analyzer whose answers are kept."""

    def analyze_again(self, picture: Image.Image) -> ImageAnalysis:
        """Asks past all caches."""
        ...


@dataclass(frozen=True)
class GeneratedPicture:
    """A picture as a file's bytes: PNG or JPEG, with its size in pixels."""

    data: bytes
    media_type: str
    width: int
    height: int
    cost_usd: Decimal | None = None
    """The cost of the first request for it; None if the provider charges nothing."""


class ImageGenerator(Protocol):
    """Makes a product picture from the product's photo (a decoded picture, upright).

    `model` changes whenever the same request would give another picture. Raises PermanentFailure or TransientFailure
    if this picture cannot be made, ProviderUnavailable or ConfigurationError if none can.
    """

    model: str
    concurrency: int
    """One process gains by making so many pictures at once."""

    def generate(
        self, photo: Image.Image, image_type: str, prompt: str, forced_by: UUID | None = None
    ) -> GeneratedPicture:
        """`forced_by` is a job that wants another picture than the one there is; its retries get that other one."""
        ...


@runtime_checkable
class Divides(Protocol):
    """A TextEmbedder whose model takes texts of a limited length."""

    def parts(self, text: str) -> list[str]:
        """The text, or overlapping parts of it that the model takes."""
        ...


class TextEmbedder(EmbeddingProvider, Protocol):
    """Turns texts into embeddings."""

    concurrency: int
    """One process gains by making so many requests at once."""
    batch_items: int
    """Texts in one request at most."""
    batch_tokens: int
    """Estimated tokens in one request at most."""

    def estimate_tokens(self, text: str) -> int: ...

    def embed(self, texts: Sequence[str]) -> Sequence[NDArray[np.float32] | JobFailure | Stop]:
        """An embedding of unit length, a failure, or a Stop for each text, in their order.

        A Stop is the reason why no text can be embedded now: ProviderUnavailable, or ConfigurationError if a person
        must act. It is raised if no text has an answer.
        """
        ...
