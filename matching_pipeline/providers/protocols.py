"""What the pipeline asks of AI providers, whichever one is configured."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from matching_pipeline.errors import JobFailure


@dataclass(frozen=True)
class ImageAnalysis:
    """What an analyzer says of one picture.

    `embedding` is float32 of shape (dimensions,), finite and of unit length: a dot product is a cosine.
    `attributes` is JSON-able: every value is a short string or a list of short strings.
    The rest says what it took, where a model described the picture.
    """

    embedding: NDArray[np.float32]
    attributes: dict[str, str | list[str]]
    vision_model: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None


class ImageAnalyzer(Protocol):
    """Turns a decoded picture (mode RGB, upright) into an embedding and attributes.

    `model` names the vector space: it changes whenever the same picture would get another vector.
    """

    model: str
    dimensions: int
    concurrency: int
    """How many pictures it is worth to analyse at once in one process."""

    def analyze(self, picture: Image.Image) -> ImageAnalysis: ...


@dataclass(frozen=True)
class GeneratedPicture:
    """A picture as a file's bytes: PNG or JPEG, with its size in pixels."""

    data: bytes
    media_type: str
    width: int
    height: int
    cost_usd: Decimal | None = None
    """What it was bought for, whoever asked for it first; None where nobody charges."""


class ImageGenerator(Protocol):
    """Makes a product picture from the product's photo (a decoded picture, upright).

    `model` names who made it: it changes whenever the same request would give another picture.
    Raises PermanentFailure or TransientFailure for this picture, ProviderUnavailable and ConfigurationError for any.
    """

    model: str
    concurrency: int
    """How many pictures it is worth to make at once in one process."""

    def generate(
        self, photo: Image.Image, image_type: str, prompt: str, forced_by: UUID | None = None
    ) -> GeneratedPicture:
        """`forced_by` is a job that wants another picture than the one there is: its retries get what it bought."""
        ...


class TextEmbedder(Protocol):
    """Turns texts into embeddings.

    `model` names the vector space: it changes whenever the same text would get another vector.
    """

    model: str
    dimensions: int
    concurrency: int
    """How many requests it is worth to make at once in one process."""
    batch_items: int
    """Texts in one request at most."""
    batch_tokens: int
    """Estimated tokens in one request at most."""

    def estimate_tokens(self, text: str) -> int: ...

    def embed(self, texts: Sequence[str]) -> list[NDArray[np.float32] | JobFailure]:
        """An embedding of unit length or a failure for each text, in their order.

        Raises ProviderUnavailable where nobody can be served, ConfigurationError where a person must act.
        """
        ...
