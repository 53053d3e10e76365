"""Whether a model still gives the vectors that it gave at first. A provider may change a model under its name."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import query
from matching_pipeline.errors import STOPS, JobFailure
from matching_pipeline.models.searching import Vector, embedded_words
from matching_pipeline.providers.factory import Modality, image_analyzer, text_embedder
from matching_pipeline.providers.protocols import AnalyzesAgain, EmbedsWords, ImageAnalyzer, TextEmbedder
from matching_pipeline.settings import Settings

QUEUE = "probe"
"""The call log records the requests under this name."""
TEXT = "A walnut sideboard with brass handles, made in Denmark in 1962."
SAME = 0.99
"""The least similarity of the same input's vectors; servers round a little otherwise each time."""
SAME_DESCRIPTION = 0.8
"""The same, if a model describes the picture: it chooses other words each time."""

Probe = Literal["text", "picture"]


@dataclass(frozen=True)
class Drift:
    """A row of `model_probes`."""

    model: str
    probe: Probe
    similarity: float
    least: float
    kept_at: datetime
    looked_at: datetime

    def __str__(self) -> str:
        return (
            f"{self.model} gives the probe {self.probe} another vector than on {self.kept_at:%Y-%m-%d}: their "
            f"similarity is {self.similarity:.3f}, so that old and new embeddings cannot be compared. docs/models.md "
            "says how to embed all of them again"
        )


def probe_models(connection: Connection, settings: Settings, database_url: str) -> Iterator[str]:
    """Asks each model that was not asked for a day, and compares; yields what it has seen."""
    models: list[tuple[str, Modality]] = connection.execute(query("models_to_probe")).fetchall()
    for model, modality in models:
        try:
            answers = list(_answers(settings, database_url, modality, model))
        except (*STOPS, JobFailure) as error:
            yield f"{model} cannot be probed now: {error}"
            continue
        for probe, vector, least in answers:
            similarity = _compare(connection, model, probe, vector, least)
            yield f"{model}: the similarity of the probe {probe} to the first is {similarity:.3f}"


def _answers(
    settings: Settings, database_url: str, modality: Modality, model: str
) -> Iterator[tuple[Probe, Vector, float]]:
    provider: ImageAnalyzer | TextEmbedder
    if modality == "text":
        with text_embedder(settings, database_url, QUEUE, model) as provider:
            yield "text", embedded_words(provider, TEXT), SAME
        return
    with image_analyzer(settings, database_url, QUEUE, model) as provider:
        if isinstance(provider, EmbedsWords):
            yield "text", provider.embed_words(TEXT), SAME
        again = provider.analyze_again if isinstance(provider, AnalyzesAgain) else provider.analyze
        analysis = again(picture())
        yield "picture", analysis.embedding, SAME_DESCRIPTION if analysis.vision_model else SAME


def picture() -> Image.Image:
    """A chair before a wall."""
    drawn = Image.new("RGB", (256, 256), "#d9cfc1")
    draw = ImageDraw.Draw(drawn)
    draw.rectangle((0, 190, 256, 256), fill="#8a6f53")
    draw.rectangle((84, 40, 172, 130), fill="#355e3b")
    draw.rectangle((76, 130, 180, 150), fill="#2b4a2f")
    for left in (80, 168):
        draw.rectangle((left, 150, left + 8, 220), fill="#4a3423")
    return drawn


def _compare(connection: Connection, model: str, probe: Probe, vector: Vector, least: float) -> float:
    """Keeps the first vector; returns the similarity to it."""
    names = {"model": model, "probe": probe, "least": least}
    connection.execute(query("keep_probe"), {**names, "embedding": vector.tolist()})
    ((kept,),) = connection.execute(query("kept_probe"), names).fetchall()
    similarity = _cosine(np.array(kept), vector.astype(np.float64)) if len(kept) == len(vector) else 0.0
    connection.execute(query("note_probe"), {**names, "similarity": similarity})
    return similarity


def _cosine(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    return float(one @ other / (np.linalg.norm(one) * np.linalg.norm(other)))
