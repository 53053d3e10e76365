"""The `job_embeddings` lane: read what a posting says, have it embedded once, write its embedding."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import timedelta
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pgvector import Vector

from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import query
from matching_pipeline.errors import (
    ConfigurationError,
    JobFailure,
    PermanentFailure,
    ProviderUnavailable,
    TransientFailure,
    as_job_failure,
)
from matching_pipeline.models import registry as models
from matching_pipeline.providers.protocols import TextEmbedder
from matching_pipeline.queues.client import Job
from matching_pipeline.queues.worker import Outcome

QUEUE = models.QUEUES["text"]
SHADOW_QUEUE = models.shadow_queue(QUEUE)
STOPS = (ProviderUnavailable, ConfigurationError)
REQUESTS_AHEAD = 8
"""Requests claimed for each that runs at once: while one is written the others go on."""
NO_TEXT = PermanentFailure("the posting has no text: its title, company and description are all empty")
PATIENCE_SECONDS = 2.0
"""The drain gets a word this often, so that it renews its leases while a request is slow."""

Answers = list[NDArray[np.float32] | JobFailure]


@dataclass(frozen=True)
class Posting:
    """What a posting says, as read when its item was claimed."""

    text: str
    input_hash: bytes


@dataclass(frozen=True)
class EmbeddedPosting:
    input_hash: bytes
    embedding: Vector


Batch = Mapping[Posting, list[Job]]
"""Each text once, with the items that it answers."""


class TextHandler:
    """Asks with a few threads, oldest first; what is known already is not asked again."""

    lease = timedelta(minutes=2)

    def __init__(self, embedder: TextEmbedder, queue: str = QUEUE) -> None:
        self.queue = queue
        self.batch_size = REQUESTS_AHEAD * embedder.concurrency * embedder.batch_items
        self._embedder = embedder
        self._requests = ThreadPoolExecutor(embedder.concurrency, thread_name_prefix="embed")

    def work(self, connection: Connection, jobs: Sequence[Job]) -> Iterator[list[Outcome]]:
        postings = self._postings(connection, jobs)
        texts: dict[Posting, list[Job]] = defaultdict(list)
        for job, posting in postings.items():
            texts[posting].append(job)
        empty = [posting for posting in texts if not posting.text.strip()]
        known = self._known(connection, texts)
        ready = [
            # a posting that is gone, or inactive, owes nothing
            *(Outcome(job) for job in jobs if job not in postings),
            *(Outcome(job, failure=NO_TEXT) for posting in empty for job in texts.pop(posting)),
            *(
                Outcome(job, EmbeddedPosting(posting.input_hash, embedding))
                for posting, embedding in known.items()
                for job in texts.pop(posting)
            ),
        ]
        size = self._embedder.batch_items
        yield from (ready[first : first + size] for first in range(0, len(ready), size))
        yield from self._ask(batches(self._embedder, texts))

    def prepare_write(self, connection: Connection) -> None:
        """Postings are independent of each other; their model must still be the lane's."""
        models.hold_role(connection, self._embedder, self.queue)

    def write(self, connection: Connection, outcomes: Sequence[Outcome]) -> None:
        results = {
            outcome.job.entity_id: outcome.result
            for outcome in outcomes
            if isinstance(outcome.result, EmbeddedPosting)
        }
        if not results:
            return
        # where the text was edited meanwhile, the edit has queued the posting again: the newer wins
        standing = connection.execute(
            query("lock_postings"),
            {"job_ids": list(results), "input_hashes": [result.input_hash for result in results.values()]},
        ).fetchall()
        written = {job_id: results[job_id] for (job_id,) in standing}
        connection.execute(
            query("write_job_embeddings"),
            {
                "model": self._embedder.model,
                "job_ids": list(written),
                "embeddings": [result.embedding for result in written.values()],
                "input_hashes": [result.input_hash for result in written.values()],
            },
        )

    def forget(self, connection: Connection, job: Job) -> None:
        connection.execute(query("forget_outdated_embedding"), {"job_id": job.entity_id})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._requests.shutdown(wait=False, cancel_futures=True)

    def _postings(self, connection: Connection, jobs: Sequence[Job]) -> dict[Job, Posting]:
        rows = connection.execute(query("posting_texts"), {"job_ids": [job.entity_id for job in jobs]})
        postings = {job_id: Posting(text, input_hash) for job_id, text, input_hash in rows}
        return {job: postings[job.entity_id] for job in jobs if job.entity_id in postings}

    def _known(self, connection: Connection, texts: Batch) -> dict[Posting, Vector]:
        rows = connection.execute(
            query("known_embeddings"),
            {"input_hashes": [posting.input_hash for posting in texts], "model": self._embedder.model},
            binary=True,
        )
        known: dict[bytes, Vector] = dict(rows.fetchall())
        return {posting: known[posting.input_hash] for posting in texts if posting.input_hash in known}

    def _ask(self, asked: Sequence[Batch]) -> Iterator[list[Outcome]]:
        """Outcomes as each request ends. What stops one stops those that have not begun, and is raised once those
        under way, which are paid for, have ended."""
        running = {self._requests.submit(self._answers, list(batch)): batch for batch in asked}
        stopping: BaseException | None = None
        try:
            while running:
                done, _ = wait(running, timeout=PATIENCE_SECONDS, return_when=FIRST_COMPLETED)
                ended = {future: running.pop(future) for future in done}
                stopped = [error for future in ended if isinstance(error := future.exception(), STOPS)]
                if stopped:
                    stopping = stopping or stopped[0]
                    running = {future: batch for future, batch in running.items() if not future.cancel()}
                yield [
                    outcome
                    for future, batch in ended.items()
                    if not isinstance(future.exception(), STOPS)
                    for outcome in _outcomes(batch, future)
                ]
        finally:
            for future in running:
                future.cancel()
        if stopping:
            raise stopping

    def _answers(self, postings: Sequence[Posting]) -> Answers:
        answers = self._embedder.embed([posting.text for posting in postings])
        if len(answers) != len(postings):
            raise TransientFailure(f"{self._embedder.model} gave {len(answers)} answers to {len(postings)} texts")
        return answers


def batches(embedder: TextEmbedder, texts: Batch) -> list[Batch]:
    """One request each, in the order given, within the embedder's limits; a text above them is alone in its own."""
    requests: list[dict[Posting, list[Job]]] = []
    room = 0
    for posting, jobs in texts.items():
        tokens = embedder.estimate_tokens(posting.text)
        if not requests or tokens > room or len(requests[-1]) == embedder.batch_items:
            requests.append({})
            room = embedder.batch_tokens
        requests[-1][posting] = jobs
        room -= tokens
    return list(requests)


def _outcomes(batch: Batch, request: Future[Answers]) -> list[Outcome]:
    if error := request.exception():
        failure = as_job_failure(error)
        return [Outcome(job, failure=failure) for jobs in batch.values() for job in jobs]
    return [
        _outcome(job, posting, answer)
        for (posting, jobs), answer in zip(batch.items(), request.result(), strict=True)
        for job in jobs
    ]


def _outcome(job: Job, posting: Posting, answer: NDArray[np.float32] | JobFailure) -> Outcome:
    if isinstance(answer, JobFailure):
        return Outcome(job, failure=answer)
    norm = float(np.linalg.norm(answer))
    if not 0 < norm < float("inf"):
        return Outcome(job, failure=TransientFailure(f"the answer is an embedding of length {norm}"))
    # at unit length no distance can overflow or vanish
    return Outcome(job, EmbeddedPosting(posting.input_hash, Vector(answer / norm)))
