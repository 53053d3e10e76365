"""Embeddings of pictures by a server of OpenAI's protocol, whose model has one space for pictures and words."""

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, Self

from PIL import Image

from matching_pipeline.providers.local import descriptor
from matching_pipeline.providers.openai.client import OpenAIClient
from matching_pipeline.providers.openai.embeddings import OpenAITextEmbedder
from matching_pipeline.providers.openai.names import EmbeddingName
from matching_pipeline.providers.openai.prices import PricedModel
from matching_pipeline.providers.openai.vectors import Vector
from matching_pipeline.providers.openai.vision import as_jpeg
from matching_pipeline.providers.protocols import ImageAnalysis

if TYPE_CHECKING:
    import httpx2
    import openai

PREFIX: Final = "multimodal:"
FORMS: Final[Mapping[str, Callable[[str], dict[str, Any]]]] = {
    "messages": lambda url: {
        "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]
    },
    "objects": lambda url: {"input": [{"image": url.partition(",")[2]}]},
    "modality": lambda url: {"input": [url], "modality": "image"},
}
"""How servers take a picture, given as a data: URL: vLLM, Jina and Infinity."""
ESTIMATED_TOKENS: Final = 1000
MOST_WORDS: Final = 77
"""Tokens that models of this kind take at least."""


@dataclass(frozen=True)
class MultimodalName:
    """`multimodal:jinaai/jina-clip-v2:1024`"""

    embedding: EmbeddingName

    @classmethod
    def parse(cls, name: str) -> Self | None:
        embedding = EmbeddingName.parse(name.removeprefix(PREFIX)) if name.startswith(PREFIX) else None
        return cls(embedding) if embedding else None

    def __str__(self) -> str:
        return f"{PREFIX}{self.embedding}"


class MultimodalAnalyzer:
    """The ImageAnalyzer. The attributes are those of the pixels."""

    def __init__(self, client: OpenAIClient, model: PricedModel, dimensions: int, form: str) -> None:
        self._pictures = _PictureEmbedder(client, model, dimensions, form)
        self._words = OpenAITextEmbedder(client, model, dimensions, MOST_WORDS)
        self.model = str(MultimodalName(self._pictures.name))
        self.dimensions = dimensions
        self.concurrency = client.threads

    def analyze(self, picture: Image.Image) -> ImageAnalysis:
        (vector,) = self._pictures.embed([_url(picture)])
        if isinstance(vector, Exception):
            raise vector
        return ImageAnalysis(vector, descriptor.described(picture).attributes)

    def analyze_again(self, picture: Image.Image) -> ImageAnalysis:
        vector = self._pictures.embed_words(_url(picture))
        return ImageAnalysis(vector, descriptor.described(picture).attributes)

    def embed_words(self, words: str) -> Vector:
        return self._words.embed_words(words)

    def price(self, inputs: Sequence[str]) -> Decimal:
        """About what it costs, in USD, to embed these pictures."""
        return self._pictures.price(inputs)

    def probe(self) -> None:
        """Asks for one embedding, past the cache; raises the fault, if any."""
        self._pictures.probe()


class _PictureEmbedder(OpenAITextEmbedder):
    """Its texts are data: URLs, each in a request of its own."""

    batch_items = 1
    shortens = False

    def __init__(self, client: OpenAIClient, model: PricedModel, dimensions: int, form: str) -> None:
        super().__init__(client, model, dimensions, max_tokens=ESTIMATED_TOKENS)
        self._form = FORMS[form]

    def estimate_tokens(self, text: str) -> int:
        return ESTIMATED_TOKENS

    def probe(self) -> None:
        self.embed_words(_url(Image.new("RGB", (64, 64), "teal")))

    def _post(self, api: "openai.OpenAI", asked: Mapping[str, Any]) -> "httpx2.Response":
        (url,) = asked["input"]
        options = {name: value for name, value in asked.items() if name != "input"}
        return super()._post(api, {**self._form(url), **options})


def _url(picture: Image.Image) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(as_jpeg(picture)).decode()}"
