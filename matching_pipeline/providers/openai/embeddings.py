"""Embeddings of texts, by a model behind OpenAI's protocol."""

import base64
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError

from matching_pipeline.errors import ConfigurationError, JobFailure, PermanentFailure, TransientFailure
from matching_pipeline.providers.answer_cache import Answer
from matching_pipeline.providers.openai.client import OpenAIClient, Question, Reply
from matching_pipeline.providers.openai.faults import InputRefused, InputTooLong, MalformedResponse
from matching_pipeline.providers.openai.names import EmbeddingName
from matching_pipeline.providers.openai.prices import PricedModel
from matching_pipeline.providers.single_flight import AnswersByHash

Float32Array = NDArray[np.float32]
Texts = Mapping[bytes, str]
"""By the hash of each text."""

SHORTENABLE = "text-embedding-3"
"""Only these models take the parameter `dimensions`; others refuse it."""


class Embedding(BaseModel):
    index: int
    embedding: str | list[float]


class EmbeddingsBody(BaseModel):
    data: list[Embedding]


class OpenAITextEmbedder:
    """The TextEmbedder of an OpenAI model.

    A text that is longer than the model takes is cut, and gets the embedding of its beginning.
    """

    batch_items = 100
    batch_tokens = 250_000
    """The provider's limit is 300,000 true tokens; these are estimated."""

    def __init__(self, client: OpenAIClient, model: PricedModel, dimensions: int, max_tokens: int) -> None:
        self.name = EmbeddingName(model.name, dimensions)
        self.model = str(self.name)
        self.dimensions = dimensions
        self.concurrency = client.threads
        self._client = client
        self._model = model
        self._max_tokens = max_tokens
        self._asked: dict[str, Any] = {"model": model.name, "encoding_format": "base64"}
        if model.name.startswith(SHORTENABLE):
            self._asked["dimensions"] = dimensions

    def estimate_tokens(self, text: str) -> int:
        """Rather too many tokens: English has four characters to a token, Chinese one, other scripts about two."""
        one_byte = len(text.encode("ascii", "ignore"))
        return ceil(one_byte / 3 + (len(text.encode("utf-8", "replace")) - one_byte) / 2) + 1

    def embed(self, texts: Sequence[str]) -> list[Float32Array | JobFailure]:
        """Asks for equal texts once, and for texts with an answer in the cache not at all."""
        sent = [self._cut(text.encode("utf-8", "replace").decode().strip()) for text in texts]
        hashes = [hashlib.sha256(text.encode()).digest() for text in sent]
        by_hash = {input_hash: text for input_hash, text in zip(hashes, sent, strict=True) if text}
        answers = self._client.single_flight.answers(
            self.model,
            by_hash,
            lambda missing: self._ask({input_hash: by_hash[input_hash] for input_hash in missing}),
        )
        return [
            _vector(answers[input_hash]) if text else PermanentFailure("the text is empty")
            for input_hash, text in zip(hashes, sent, strict=True)
        ]

    def probe(self) -> None:
        """Asks for one embedding, past the cache; raises the fault, if any."""
        text = "matching_pipeline doctor"
        self._request({hashlib.sha256(text.encode()).digest(): text})

    def _cut(self, text: str) -> str:
        while (tokens := self.estimate_tokens(text)) > self._max_tokens:
            text = text[: len(text) * self._max_tokens // tokens]
        return text

    def _ask(self, texts: Texts) -> AnswersByHash:
        return {key: answer for batch in self._batches(texts) for key, answer in self._answers(batch).items()}

    def _batches(self, texts: Texts) -> Iterator[Texts]:
        batch: dict[bytes, str] = {}
        tokens = 0
        for input_hash, text in texts.items():
            estimate = self.estimate_tokens(text)
            if batch and (len(batch) >= self.batch_items or tokens + estimate > self.batch_tokens):
                yield batch
                batch, tokens = {}, 0
            batch[input_hash] = text
            tokens += estimate
        yield batch

    def _answers(self, texts: Texts) -> AnswersByHash:
        """Halves a batch that the server refuses until the refused text is alone: a refusal costs nothing."""
        try:
            return self._request(texts)
        except (InputRefused, PermanentFailure) as refusal:
            if len(texts) > 1:
                items, middle = list(texts.items()), len(texts) // 2
                return self._answers(dict(items[:middle])) | self._answers(dict(items[middle:]))
            ((input_hash, text),) = texts.items()
            if isinstance(refusal, InputTooLong) and len(text) > 1:
                return self._answers({input_hash: text[: len(text) // 2]})
            return {input_hash: PermanentFailure(f"{self._model.name} refuses the text: {refusal}")}

    def _request(self, texts: Texts) -> AnswersByHash:
        hashes = list(texts)
        failures: dict[bytes, JobFailure] = {}

        def read(reply: Reply) -> None:
            share = reply.input_tokens // len(hashes)
            indexes, vectors = self._vectors(reply.body, len(hashes))
            for index, vector, length in zip(indexes, vectors, np.linalg.norm(vectors, axis=1), strict=True):
                if 0 < length < float("inf"):
                    reply.answers[hashes[index]] = Answer((vector / length).astype("<f4").tobytes(), share, 0)
                else:
                    message = f"{self._model.name} gave an embedding of length {length}"
                    failures[hashes[index]] = TransientFailure(message)
            for index in {*range(len(hashes))} - {*indexes}:
                failures[hashes[index]] = TransientFailure(f"{self._model.name} gave no embedding for the text")

        question = Question(
            self._model,
            answered_by=self.model,
            items=len(hashes),
            estimated_tokens=sum(map(self.estimate_tokens, texts.values())),
            # not as `input`: the client would check each text of it, which takes longer than all other work here
            ask=lambda api: api.embeddings.with_raw_response.create(
                input=[], extra_body={"input": list(texts.values())}, **self._asked
            ),
        )
        return {**self._client.send(question, read).answers, **failures}

    def _vectors(self, body: Any, count: int) -> tuple[list[int], Float32Array]:
        """The index that the response states for each vector, and the vectors as rows.

        Raises MalformedResponse if an index is stated twice or out of range: its vector may be another text's.
        """
        try:
            entries = EmbeddingsBody.model_validate(body).data
            rows = [_decoded(entry.embedding) for entry in entries]
        except (ValidationError, ValueError) as error:
            raise MalformedResponse(str(error)) from error
        indexes = [entry.index for entry in entries]
        if not indexes or len({*indexes}) < len(indexes) or not {*indexes} <= {*range(count)}:
            raise MalformedResponse(f"for {count} texts it holds embeddings of the indexes {sorted(indexes)[:200]}")
        for row in rows:
            if len(row) != self.dimensions:
                raise ConfigurationError(
                    f"OPENAI_EMBEDDING_DIMENSIONS: {self._model.name} gives {len(row)} dimensions, "
                    f"not {self.dimensions}"
                )
        return indexes, np.stack(rows)


def _decoded(embedding: str | list[float]) -> Float32Array:
    if isinstance(embedding, str):
        return np.frombuffer(base64.b64decode(embedding, validate=True), dtype="<f4")
    return np.array(embedding, dtype=np.float32)


def _vector(answer: Answer | JobFailure) -> Float32Array | JobFailure:
    return answer if isinstance(answer, JobFailure) else np.frombuffer(answer.content, dtype="<f4")
