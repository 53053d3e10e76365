"""Embeds texts with a model behind OpenAI's protocol."""

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np

from matching_pipeline.errors import STOPS, ConfigurationError, JobFailure, PermanentFailure, Stop, TransientFailure
from matching_pipeline.providers.answer_cache import Answer
from matching_pipeline.providers.openai.client import OpenAIClient, Options, Question, Reply
from matching_pipeline.providers.openai.faults import (
    Doubtful,
    InputRefused,
    InputTooLong,
    MalformedResponse,
    RequestFailed,
    RequestTooLarge,
)
from matching_pipeline.providers.openai.names import EmbeddingName
from matching_pipeline.providers.openai.prices import PricedModel
from matching_pipeline.providers.openai.vectors import Vector, vectors
from matching_pipeline.providers.parts import parts
from matching_pipeline.providers.single_flight import AnswersByHash

if TYPE_CHECKING:
    import httpx2
    import openai

Texts = Mapping[bytes, str]
"""By the hash of each text."""

SHORTENABLE = "text-embedding-3"
"""Only these models take the parameter `dimensions`; others refuse it."""
SHORT = 200
"""A text of so few characters is not cut, even if the server says that it is too long."""


class OpenAITextEmbedder:
    """The TextEmbedder of an OpenAI model.

    A caller divides a text that is longer than the model takes (`parts`). One that is too long nevertheless is cut.
    """

    batch_items = 100
    batch_tokens = 250_000
    """The provider's limit is 300,000 true tokens; these are estimated."""
    shortens = True
    """A text that the server finds too long is cut."""

    def __init__(self, client: OpenAIClient, model: PricedModel, dimensions: int, max_tokens: int) -> None:
        self.name = EmbeddingName(model.name, dimensions)
        self.model = str(self.name)
        self.dimensions = dimensions
        self.concurrency = client.threads
        self._client = client
        self._model = model
        self._max_tokens = max_tokens
        self._most_items = self.batch_items
        """the server takes so many texts in one request"""
        self._options: Options = {"encoding_format": "base64"}
        if model.name.startswith(SHORTENABLE):
            self._options = {**self._options, "dimensions": dimensions}

    def estimate_tokens(self, text: str) -> int:
        """Rather too many tokens: English has four characters to a token, Chinese one, other scripts about two."""
        one_byte = len(text.encode("ascii", "ignore"))
        return ceil(one_byte / 3 + (len(text.encode("utf-8", "replace")) - one_byte) / 2) + 1

    def parts(self, text: str) -> list[str]:
        return parts(text, self._max_tokens, self.estimate_tokens)

    def embed(self, texts: Sequence[str]) -> list[Vector | JobFailure | Stop]:
        """Asks for equal texts once, and for texts with an answer in the cache not at all."""
        sent = [self._cut(text.encode("utf-8", "replace").decode().strip()) for text in texts]
        hashes = [hashlib.sha256(text.encode()).digest() for text in sent]
        by_hash = {input_hash: text for input_hash, text in zip(hashes, sent, strict=True) if text}
        answers = self._client.single_flight.answers(
            str(self.name),
            by_hash,
            lambda missing: self._ask({input_hash: by_hash[input_hash] for input_hash in missing}),
        )
        results = [
            _vector(answers[input_hash]) if text else PermanentFailure("the text is empty")
            for input_hash, text in zip(hashes, sent, strict=True)
        ]
        stops = [result for result in results if isinstance(result, STOPS)]
        if stops and len(stops) == len(results):
            raise stops[0]
        return results

    def price(self, inputs: Sequence[str]) -> Decimal:
        """About what it costs, in USD, to embed these texts."""
        return self._model.cost(sum(map(self.estimate_tokens, inputs)), 0)

    def probe(self) -> None:
        """Asks for one embedding, past the cache; raises the fault, if any."""
        self.embed_words("matching_pipeline doctor")

    def embed_words(self, words: str) -> Vector:
        sent = self._cut(words.encode("utf-8", "replace").decode().strip())
        try:
            (answer,) = self._request({hashlib.sha256(sent.encode()).digest(): sent}).values()
        except Doubtful as doubt:
            raise doubt.if_all_fail from doubt
        vector = _vector(answer)
        if isinstance(vector, Exception):
            raise vector
        return vector

    def _cut(self, text: str) -> str:
        while (tokens := self.estimate_tokens(text)) > self._max_tokens:
            text = text[: len(text) * self._max_tokens // tokens]
        return text

    def _ask(self, texts: Texts) -> AnswersByHash:
        """The answers. After a Stop the texts without an answer get the Stop, as the other answers are paid for."""
        answers: AnswersByHash = {}
        began = time.monotonic()
        try:
            for batch in self._batches(texts):
                self._answer(batch, began, answers)
        except STOPS as stop:
            answers |= {input_hash: stop for input_hash in texts if input_hash not in answers}
        return answers

    def _batches(self, texts: Texts) -> Iterator[Texts]:
        batch: dict[bytes, str] = {}
        tokens = 0
        for input_hash, text in texts.items():
            estimate = self.estimate_tokens(text)
            if batch and (len(batch) >= self._most_items or tokens + estimate > self.batch_tokens):
                yield batch
                batch, tokens = {}, 0
            batch[input_hash] = text
            tokens += estimate
        yield batch

    def _answer(self, texts: Texts, began: float, answers: AnswersByHash) -> None:
        """Puts in the answers. A batch that fails is divided until the text at fault is alone.

        The provider must have passed another request since `began`, or pass a probe.
        """
        try:
            answers |= self._request(texts)
        except (Doubtful, PermanentFailure) as fault:
            if len(texts) > 1:
                if isinstance(fault, Doubtful) and not isinstance(fault, InputTooLong | RequestTooLarge):
                    self._client.health.require(self._model.name, began, fault, self.probe)
                for part in self._parts(texts, fault):
                    self._answer(part, began, answers)
                return
            ((input_hash, text),) = texts.items()
            if isinstance(fault, InputTooLong) and self.shortens and len(text) > SHORT:
                self._answer({input_hash: text[: len(text) // 2]}, began, answers)
            else:
                answers[input_hash] = self._failure(fault)

    def _parts(self, texts: Texts, fault: Exception) -> list[Texts]:
        """Halves, or as many texts as the server says that it takes; it is asked for no more from then on."""
        size = (len(texts) + 1) // 2
        if isinstance(fault, RequestTooLarge) and fault.most_items and fault.most_items < len(texts):
            size = self._most_items = fault.most_items
        items = list(texts.items())
        return [dict(items[at : at + size]) for at in range(0, len(items), size)]

    def _failure(self, fault: Doubtful | PermanentFailure) -> JobFailure:
        """The failure of a text that fails alone. Raises if another request fails too."""
        if isinstance(fault, PermanentFailure):
            return fault
        self._client.health.require(self._model.name, time.monotonic(), fault, self.probe)
        refused = f"{self._model.name} refuses the text: " if isinstance(fault, InputRefused) else ""
        return fault.if_alone(f"{refused}{fault}")

    def _request(self, texts: Texts) -> AnswersByHash:
        hashes = list(texts)
        failures: dict[bytes, JobFailure] = {}

        def read(reply: Reply) -> None:
            share = reply.input_tokens // len(hashes)
            for position, vector in self._usable(reply.body, len(hashes)).items():
                if isinstance(vector, JobFailure):
                    failures[hashes[position]] = vector
                else:
                    reply.answers[hashes[position]] = Answer(vector.tobytes(), share, 0)

        question = Question(
            self._model,
            operation="embeddings",
            answered_by=str(self.name),
            items=len(hashes),
            estimated_tokens=sum(map(self.estimate_tokens, texts.values())),
            # no token has less than a byte; some models add a first and a last one
            most_tokens=(sum(len(text.encode()) + 2 for text in texts.values()), 0),
            options=self._options,
            ask=lambda api, options: self._post(api, {"input": list(texts.values()), **options}),
        )
        return {**self._client.send(question, read).answers, **failures}

    def _post(self, api: "openai.OpenAI", asked: Mapping[str, Any]) -> "httpx2.Response":
        """Does not use `api.embeddings`, which checks each text: that takes longer than all other work here."""
        import httpx2

        return api.post("/embeddings", cast_to=httpx2.Response, body={"model": self._model.name, **asked})

    def _usable(self, body: Any, count: int) -> dict[int, Vector | JobFailure]:
        """A vector of unit length, or a failure, for each text. Raises if no text has a vector."""
        read = vectors(body, count)
        rows = {position: row for position, row in read.items() if row is not None}
        fitting = {position: row for position, row in rows.items() if len(row) == self.dimensions}
        if rows and not fitting:
            message = f"{self._model.name} gives {len(next(iter(rows.values())))} dimensions, not {self.dimensions}"
            raise RequestFailed(message, ConfigurationError(f"OPENAI_EMBEDDING_DIMENSIONS: {message}"))
        usable: dict[int, Vector | JobFailure] = {}
        if fitting:
            stacked = np.stack(list(fitting.values()))
            lengths = np.linalg.norm(stacked, axis=1)
            has_direction = (lengths > 0) & np.isfinite(lengths)
            units = (stacked / np.where(has_direction, lengths, 1)[:, None]).astype("<f4")
            usable |= {
                position: unit for position, unit, fits in zip(fitting, units, has_direction, strict=True) if fits
            }
        for position in {*range(count)} - {*usable}:
            usable[position] = TransientFailure(self._complaint(read, position))
        if all(isinstance(each, JobFailure) for each in usable.values()):
            raise MalformedResponse(str(usable[0]))
        return usable

    def _complaint(self, read: Mapping[int, Vector | None], position: int) -> str:
        if position not in read:
            return f"{self._model.name} gave no embedding for the text"
        row = read[position]
        if row is None or not np.isfinite(row).all():
            return f"{self._model.name} gave an embedding that is not a list of numbers"
        if len(row) != self.dimensions:
            return f"{self._model.name} gave an embedding of {len(row)} dimensions, not {self.dimensions}"
        return f"{self._model.name} gave an embedding of length {np.linalg.norm(row)}"


def _vector(answer: Answer | JobFailure | Stop) -> Vector | JobFailure | Stop:
    return answer if isinstance(answer, Exception) else np.frombuffer(answer.content, dtype="<f4")
