"""What the pipeline asks of an image analyzer, whichever one is configured."""

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
