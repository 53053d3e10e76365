"""What the pipeline asks of whoever analyses and makes images, whichever one is configured."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image


@dataclass(frozen=True)
class ImageAnalysis:
    """What an analyzer says of one picture.

    `embedding` is float32 of shape (dimensions,), finite and of unit length: a dot product is a cosine.
    `attributes` is JSON-able: every value is a short string or a list of short strings.
    """

    embedding: NDArray[np.float32]
    attributes: dict[str, str | list[str]]


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


class ImageGenerator(Protocol):
    """Makes a product picture from the product's photo (a decoded picture, upright).

    `model` names who made it: it changes whenever the same request would give another picture.
    Raises PermanentFailure or TransientFailure for this picture, ProviderUnavailable and ConfigurationError for any.
    """

    model: str
    concurrency: int
    """How many pictures it is worth to make at once in one process."""

    def generate(self, photo: Image.Image, image_type: str, prompt: str) -> GeneratedPicture: ...
