"""The `local` analyzer of pictures: no key, no server. What a network sees, beside a description of the pixels.

The network tells things apart; the description tells shapes and colours of one kind of thing apart.
"""

from typing import Final

import numpy as np
from PIL import Image

from matching_pipeline.providers.local import descriptor
from matching_pipeline.providers.local.network import DIRECTIONS, network
from matching_pipeline.providers.protocols import ImageAnalysis

DESCRIPTION_WEIGHT: Final = 0.7
"""Beside the network's vector, which has weight 1."""


class LocalImageAnalyzer:
    """The ImageAnalyzer: the same pixels always give the same analysis."""

    model = "local-visual-2"
    dimensions = DIRECTIONS + descriptor.DIMENSIONS
    # NumPy in small steps holds the interpreter: a second thread makes both slower
    concurrency = 1

    def __init__(self) -> None:
        self._network = network()

    def analyze(self, picture: Image.Image) -> ImageAnalysis:
        seen, description = self._network.see(picture), descriptor.described(picture)
        vector = np.concatenate([seen.vector, DESCRIPTION_WEIGHT * description.vector])
        category = self._network.category(picture, seen)
        attributes = {"category": category, **description.attributes} if category else description.attributes
        return ImageAnalysis((vector / np.linalg.norm(vector)).astype(np.float32), attributes)
