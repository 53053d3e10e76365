"""Embeds the words or the picture that a person searches by, with a model that the sources use already."""

import numpy as np
from numpy.typing import NDArray

from matching_pipeline.pictures.decode import decode
from matching_pipeline.pictures.memory import process_memory
from matching_pipeline.providers.factory import Modality, image_analyzer, text_embedder
from matching_pipeline.providers.protocols import EmbedsWords, TextEmbedder
from matching_pipeline.settings import Settings

QUEUE = "search"
"""The call log records the requests under this name."""
SIDE = 768
"""Pixels of the longer side: a picture is scaled down to this, as before it is embedded."""

Vector = NDArray[np.float32]


def vector_of_words(
    settings: Settings, database_url: str, modality: Modality, model: str, words: str
) -> Vector | None:
    """None if a model of pictures embeds no words. Raises a JobFailure or a Stop."""
    if modality == "text":
        with text_embedder(settings, database_url, QUEUE, model) as embedder:
            return embedded_words(embedder, words)
    with image_analyzer(settings, database_url, QUEUE, model) as analyzer:
        return analyzer.embed_words(words) if isinstance(analyzer, EmbedsWords) else None


def vector_of_picture(settings: Settings, database_url: str, model: str, data: bytes) -> Vector:
    """`data` is the file. Raises a JobFailure or a Stop."""
    decoded = decode(data, side=SIDE, memory=process_memory(settings.image_memory_bytes))
    with image_analyzer(settings, database_url, QUEUE, model) as analyzer:
        return analyzer.analyze(decoded).embedding


def embedded_words(embedder: TextEmbedder, words: str) -> Vector:
    """Raises the failure or the Stop."""
    if isinstance(embedder, EmbedsWords):
        return embedder.embed_words(words)
    (answer,) = embedder.embed([words])
    if isinstance(answer, Exception):
        raise answer
    return answer
