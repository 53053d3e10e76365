"""Models that the library fastembed runs: it fetches their weights, or reads them from a folder."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from matching_pipeline.errors import ConfigurationError, JobFailure, PermanentFailure
from matching_pipeline.providers.local import descriptor
from matching_pipeline.providers.parts import parts
from matching_pipeline.providers.protocols import ImageAnalysis

PREFIX: Final = "fastembed:"
"""The names of these models in the registry begin with it."""
WORDS: Final[Mapping[str, str]] = {
    "Qdrant/clip-ViT-B-32-vision": "Qdrant/clip-ViT-B-32-text",
    "jinaai/jina-clip-v1": "jinaai/jina-clip-v1",
    "google/siglip2-base-patch16-224": "google/siglip2-base-patch16-224",
}
"""The models of pictures that have a model of texts in the same space, with that."""

Vector = NDArray[np.float32]


class _Model:
    """It embeds one text or picture at a time, so that a vector does not depend on others. `kind` is a class of
    fastembed."""

    def __init__(self, kind: str, name: str, folder: Path | None, sample: object) -> None:
        setting = "TEXT_MODEL" if kind == "TextEmbedding" else "IMAGE_MODEL"
        try:
            import fastembed
        except ImportError as error:
            raise ConfigurationError(f"{setting}: fastembed is missing: pip install fastembed") from error
        files: dict[str, Any] = {}
        if folder is not None:
            files["specific_model_path"] = str(folder / name)
        try:
            self._model: Any = getattr(fastembed, kind)(name, threads=1, **files)
            (vector,) = self._model.embed([sample])
        except Exception as error:
            place = f"in {folder / name}" if folder else "by fastembed's own download"
            raise ConfigurationError(f"{setting}: {name} cannot be loaded {place}: {error}") from error
        self.dimensions: int = self._model.embedding_size
        self._tokenizer: Any = getattr(self._model.model, "tokenizer", None)
        if vector.shape != (self.dimensions,):
            shape = " × ".join(map(str, vector.shape))
            raise ConfigurationError(
                f"{setting}: the weights of {name} give {shape} dimensions, not {self.dimensions}: they are another "
                "model's"
            )

    @property
    def most_tokens(self) -> int | None:
        """The tokenizer cuts a longer text off."""
        return (self._tokenizer.truncation or {}).get("max_length") if self._tokenizer else None

    def tokens(self, text: str) -> int:
        encoded = self._tokenizer.encode(text)
        return sum(sum(part.attention_mask) for part in (encoded, *encoded.overflowing))

    def vector(self, given: object) -> Vector | JobFailure:
        (vector,) = self._model.embed([given])
        length = float(np.linalg.norm(vector))
        if not 0 < length < float("inf"):
            return PermanentFailure(f"the model gives a vector of length {length}")
        return np.asarray(vector / length, dtype=np.float32)


class FastembedTextEmbedder:
    """The TextEmbedder. A caller divides a text that is longer than the model takes (`parts`)."""

    concurrency = 1
    batch_items = 32
    batch_tokens = 250_000

    def __init__(self, name: str, folder: Path | None) -> None:
        self.model = PREFIX + name
        self._model = _Model("TextEmbedding", name, folder, "a text")
        self.dimensions = self._model.dimensions

    def estimate_tokens(self, text: str) -> int:
        return len(text) // 4 + 1

    def parts(self, text: str) -> list[str]:
        limit = self._model.most_tokens
        return parts(text, limit, self._model.tokens) if limit else [text]

    def embed(self, texts: Sequence[str]) -> list[Vector | JobFailure]:
        given = [text.encode("utf-8", "replace").decode().strip() for text in texts]
        return [self._model.vector(text) if text else PermanentFailure("the text is empty") for text in given]


class FastembedImageAnalyzer:
    """The ImageAnalyzer. The attributes are those of the pixels."""

    concurrency = 1

    def __init__(self, name: str, folder: Path | None) -> None:
        self.model = PREFIX + name
        self._name, self._folder = name, folder
        self._model = _Model("ImageEmbedding", name, folder, Image.new("RGB", (64, 64), "teal"))
        self.dimensions = self._model.dimensions

    def analyze(self, picture: Image.Image) -> ImageAnalysis:
        vector = self._model.vector(picture)
        if isinstance(vector, JobFailure):
            raise vector
        return ImageAnalysis(vector, descriptor.described(picture).attributes)


class FastembedSharedAnalyzer(FastembedImageAnalyzer):
    """Embeds words too, by the model's twin for texts, which is loaded when it is first asked for."""

    def embed_words(self, words: str) -> Vector:
        (vector,) = self._words.embed([words])
        if isinstance(vector, JobFailure):
            raise vector
        return vector

    @cached_property
    def _words(self) -> FastembedTextEmbedder:
        return FastembedTextEmbedder(WORDS[self._name], self._folder)
