"""The `local` text embedder: which words two texts share, not what they mean. No key, no network, no weights."""

import re
from collections import Counter
from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from matching_pipeline.failures import ItemFailure, PermanentFailure

WORD = re.compile(r"\w+")


class LocalTextEmbedder:
    """Each word adds to one dimension, up or down, by its hash; a word that is there often counts little more."""

    model = "local-words-1"
    dimensions = 256
    concurrency = 1
    batch_items = 100
    batch_tokens = 300_000

    def estimate_tokens(self, text: str) -> int:
        return len(text) // 4 + 1

    def embed(self, texts: Sequence[str]) -> list[NDArray[np.float32] | ItemFailure]:
        return [self._embed(text) for text in texts]

    def _embed(self, text: str) -> NDArray[np.float32] | ItemFailure:
        vector = np.zeros(self.dimensions)
        for word, count in Counter(WORD.findall(text.casefold())).items():
            place = int.from_bytes(blake2b(word.encode(), digest_size=8).digest(), "big")
            vector[place // 2 % self.dimensions] += np.sqrt(count) * (1 if place % 2 else -1)
        norm = np.linalg.norm(vector)
        return (vector / norm).astype(np.float32) if norm else PermanentFailure("the text has no words")
