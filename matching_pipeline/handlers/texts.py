"""Queues of texts: reads what entities say, has each text embedded once and writes the embeddings."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pgvector import Vector

from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import query
from matching_pipeline.errors import STOPS, JobFailure, Stop, TransientFailure
from matching_pipeline.models import registry as models
from matching_pipeline.providers.protocols import Divides, TextEmbedder, same_vectors
from matching_pipeline.queues.client import Job
from matching_pipeline.queues.futures import PATIENCE_SECONDS, Futures
from matching_pipeline.queues.handler import Outcome
from matching_pipeline.sources.items import forget_outdated, read_items, write_mirror
from matching_pipeline.sources.reading import SourceRow, text_hash

REQUESTS_AHEAD = 4
"""A session claims so many requests for each that runs at once: while it writes one, the others run."""
ROUNDING = 1e-5
"""The square of an embedding's length may differ so much from 1."""


@dataclass(frozen=True)
class Text:
    """The text of an entity, as the database had it after the worker claimed the job."""

    text: str
    input_hash: bytes


@dataclass(frozen=True)
class EmbeddedText:
    row: SourceRow
    input_hash: bytes
    embeddings: list[Vector]
    """one for each part of the text; most texts have one part"""


Jobs = Mapping[Job, SourceRow]
Batch = Mapping[Text, Jobs]
"""Each text once, with the jobs that need its embedding and their rows."""
Answers = list[list[NDArray[np.float32]] | JobFailure | Stop]
"""To the texts of a batch, in their order: the vectors of each text's parts."""


class TextHandler:
    """Sends several requests at once, oldest jobs first. A text with a known embedding is not sent."""

    lease = timedelta(minutes=2)
    two_sessions: Literal[True] = True

    def __init__(self, embedder: TextEmbedder, queue: str) -> None:
        self.queue = queue
        self.batch_size = REQUESTS_AHEAD * embedder.concurrency * embedder.batch_items
        self._embedder = embedder
        self._requests = ThreadPoolExecutor(embedder.concurrency, thread_name_prefix="embed")

    def work(self, connection: Connection, jobs: Sequence[Job]) -> Iterator[list[Outcome]]:
        rows, ready = read_items(connection, jobs)
        texts: dict[Text, dict[Job, SourceRow]] = defaultdict(dict)
        for job, row in rows.items():
            texts[Text(row.content or "", text_hash(row.content))][job] = row
        for text, embeddings in self._known(connection, texts).items():
            ready += [
                Outcome(job, EmbeddedText(row, text.input_hash, embeddings)) for job, row in texts.pop(text).items()
            ]
        size = self._embedder.batch_items
        yield from (ready[first : first + size] for first in range(0, len(ready), size))
        running: Futures[Batch] = Futures()
        for batch in batches(self._embedder, texts):
            running.add(self._requests.submit(self._embed, list(batch)), batch)
        for ended in running.ended(PATIENCE_SECONDS):
            for _, answers in ended:
                if isinstance(answers, list):
                    running.stop_at(answers)
            yield [outcome for batch, answer in ended for outcome in _outcomes(batch, answer)]

    def prepare_write(self, connection: Connection) -> None:
        """Texts need no lock against each other. The embedder must still be the model of the queue."""
        models.hold_role(connection, self._embedder, self.queue)

    def write(self, connection: Connection, outcomes: Sequence[Outcome]) -> None:
        embedded = [
            (row.item_key, outcome)
            for outcome, row in write_mirror(connection, self.queue, outcomes, is_text=True)
            # if the app has changed the text since it was read, it is in the queue again
            if text_hash(row.content) == outcome.result.input_hash
        ]
        if embedded:
            numbered = list(enumerate((outcome.result.embeddings for _, outcome in embedded), start=1))
            columns = {
                "sources": [outcome.job.source for _, outcome in embedded],
                "item_keys": [key for key, _ in embedded],
                "part_of": [number for number, part in numbered for _ in part],
                "embeddings": [vector for _, part in numbered for vector in part],
                "input_hashes": [outcome.result.input_hash for _, outcome in embedded],
            }
            connection.execute(query("write_text_embeddings"), {"model": self._embedder.model, **columns})

    def forget(self, connection: Connection, job: Job) -> None:
        forget_outdated(connection, self.queue, job, is_text=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        # A running request costs money, so its answer is stored before the provider's client closes.
        self._requests.shutdown(wait=True, cancel_futures=True)

    def _known(self, connection: Connection, texts: Iterable[Text]) -> dict[Text, list[Vector]]:
        rows = connection.execute(
            query("known_embeddings"),
            {"input_hashes": [text.input_hash for text in texts], "models": same_vectors(self._embedder)},
            binary=True,
        )
        known: dict[bytes, list[Vector]] = dict(rows.fetchall())
        return {text: known[text.input_hash] for text in texts if text.input_hash in known}

    def _embed(self, texts: Sequence[Text]) -> Answers:
        divided = [parts_of(self._embedder, text.text) for text in texts]
        sent = [part for parts in divided for part in parts]
        answers = self._embedder.embed(sent)
        if len(answers) != len(sent):
            raise TransientFailure(f"{self._embedder.model} gave {len(answers)} answers to {len(sent)} texts")
        remaining = iter(answers)
        return [_whole([next(remaining) for _ in parts]) for parts in divided]


def parts_of(embedder: TextEmbedder, text: str) -> list[str]:
    return embedder.parts(text) if isinstance(embedder, Divides) else [text]


def _whole(parts: Sequence[NDArray[np.float32] | JobFailure | Stop]) -> list[NDArray[np.float32]] | JobFailure | Stop:
    """The vectors of a text's parts, or the reason why it lacks one. A Stop comes first: the job is not at fault."""
    vectors = [each for each in parts if not isinstance(each, Exception)]
    if len(vectors) == len(parts):
        return vectors
    failed = [each for each in parts if isinstance(each, Exception)]
    return next((each for each in failed if isinstance(each, STOPS)), failed[0])


def batches(embedder: TextEmbedder, texts: Batch) -> list[Batch]:
    """Divides the texts, in their order, into requests within the embedder's limits.

    A text that exceeds the limit of tokens has a request of its own.
    """
    requests: list[dict[Text, Jobs]] = []
    room = 0
    for text, jobs in texts.items():
        tokens = embedder.estimate_tokens(text.text)
        if not requests or tokens > room or len(requests[-1]) == embedder.batch_items:
            requests.append({})
            room = embedder.batch_tokens
        requests[-1][text] = jobs
        room -= tokens
    return list(requests)


def _outcomes(batch: Batch, answer: Answers | JobFailure | None) -> Iterator[Outcome]:
    """None if a request was stopped: the worker releases its jobs, and those of texts that have a Stop."""
    if answer is None:
        return
    answers = [answer] * len(batch) if isinstance(answer, JobFailure) else answer
    for (text, jobs), each in zip(batch.items(), answers, strict=True):
        if isinstance(each, STOPS):
            continue
        yield from (_outcome(job, row, text, each) for job, row in jobs.items())


def _outcome(job: Job, row: SourceRow, text: Text, answer: Sequence[NDArray[np.float32]] | JobFailure) -> Outcome:
    if isinstance(answer, JobFailure):
        return Outcome(job, failure=answer)
    if len({len(part) for part in answer}) > 1:
        return Outcome(job, failure=TransientFailure("the parts of the text have embeddings of different dimensions"))
    try:
        return Outcome(job, EmbeddedText(row, text.input_hash, [Vector(_unit(part)) for part in answer]))
    except TransientFailure as failure:
        return Outcome(job, failure=failure)


def _unit(answer: NDArray[np.float32]) -> NDArray[np.float32]:
    """The vector at unit length, so that no distance can overflow or vanish."""
    square = float(np.dot(answer, answer))
    if abs(square - 1) <= ROUNDING:
        return answer
    length = float(np.linalg.norm(answer))
    if not 0 < length < float("inf"):
        raise TransientFailure(f"the answer is an embedding of length {length}")
    return answer / np.float32(length)
