"""Names of models in the registry. A name holds all that is needed to make its provider again."""

import re
from dataclasses import dataclass
from typing import Self

_EMBEDDING = re.compile(r"(?P<model>\S+):(?P<dimensions>[1-9]\d{0,4})")
_VISION = re.compile(r"(?P<model>\S+?)/(?P<prompt>describe-\d+)/(?P<embedding>\S+)")


@dataclass(frozen=True)
class EmbeddingName:
    """`text-embedding-3-small:1536`"""

    model: str
    dimensions: int

    @classmethod
    def parse(cls, name: str) -> Self | None:
        match = _EMBEDDING.fullmatch(name)
        return cls(match["model"], int(match["dimensions"])) if match else None

    def __str__(self) -> str:
        return f"{self.model}:{self.dimensions}"


@dataclass(frozen=True)
class VisionName:
    """`gpt-6-luna/describe-1/text-embedding-3-small:1536`: the vision model, its prompt, and the embedding model."""

    model: str
    prompt: str
    embedding: EmbeddingName

    @classmethod
    def parse(cls, name: str) -> Self | None:
        match = _VISION.fullmatch(name)
        embedding = EmbeddingName.parse(match["embedding"]) if match else None
        return cls(match["model"], match["prompt"], embedding) if match and embedding else None

    @property
    def described_by(self) -> str:
        return f"{self.model}/{self.prompt}"

    def __str__(self) -> str:
        return f"{self.described_by}/{self.embedding}"
