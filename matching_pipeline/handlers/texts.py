"""The queue `job_embeddings`: reads what postings say, has each text embedded once and writes the embeddings."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pgvector import Vector

from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import query
from matching_pipeline.errors import JobFailure, PermanentFailure, TransientFailure
from matching_pipeline.models import registry as models
from matching_pipeline.providers.protocols import TextEmbedder
from matching_pipeline.queues.client import Job
from matching_pipeline.queues.futures import PATIENCE_SECONDS, Futures
from matching_pipeline.queues.worker import Outcome

QUEUE = models.QUEUES["text"]
SHADOW_QUEUE = models.shadow_queue(QUEUE)
REQUESTS_AHEAD = 8
"""The worker claims so many requests for each that runs at once: while it writes one, the others run."""
NO_TEXT = PermanentFailure("the posting has no text: its title, company and description are all empty")


@dataclass(frozen=True)
class Posting:
    """The text of a posting, as the database had it after the worker claimed the job."""

    text: str
    input_hash: bytes


@dataclass(frozen=True)
class EmbeddedPosting:
    input_hash: bytes
    embedding: Vector


Batch = Mapping[Posting, list[Job]]
"""Each text once, with the jobs that need its embedding."""


class TextHandler:
    """Sends several requests at once, oldest jobs first. A text with a known embedding is not sent."""

    lease = timedelta(minutes=2)

    def __init__(self, embedder: TextEmbedder, queue: str = QUEUE) -> None:
        self.queue = queue
        self.batch_size = REQUESTS_AHEAD * embedder.concurrency * embedder.batch_items
        self._embedder = embedder
        self._requests = ThreadPoolExecutor(embedder.concurrency, thread_name_prefix="embed")

    def work(self, connection: Connection, jobs: Sequence[Job]) -> Iterator[list[Outcome]]:
        postings = self._postings(connection, jobs)
        # a posting that is deleted or inactive needs no embedding
        ready = [Outcome(job) for job in jobs if job not in postings]
        texts: dict[Posting, list[Job]] = defaultdict(list)
        for job, posting in postings.items():
            texts[posting].append(job)
        for posting in [posting for posting in texts if not posting.text.strip()]:
            ready += [Outcome(job, failure=NO_TEXT) for job in texts.pop(posting)]
        for posting, embedding in self._known(connection, texts).items():
            embedded = EmbeddedPosting(posting.input_hash, embedding)
            ready += [Outcome(job, embedded) for job in texts.pop(posting)]
        size = self._embedder.batch_items
        yield from (ready[first : first + size] for first in range(0, len(ready), size))
        running: Futures[Batch] = Futures()
        for batch in batches(self._embedder, texts):
            running.add(self._requests.submit(self._embed, list(batch)), batch)
        for ended in running.ended(PATIENCE_SECONDS):
            yield [outcome for batch, answer in ended for outcome in _outcomes(batch, answer)]

    def prepare_write(self, connection: Connection) -> None:
        """Postings need no lock against each other. The embedder must still be the model of the queue."""
        models.hold_role(connection, self._embedder, self.queue)

    def write(self, connection: Connection, outcomes: Sequence[Outcome]) -> None:
        results = {outcome.job.entity_id: outcome.result for outcome in outcomes if outcome.result is not None}
        if not results:
            return
        # A posting whose text was edited meanwhile is not locked here: the edit has queued it again.
        locked = connection.execute(
            query("lock_postings"),
            {"job_ids": list(results), "input_hashes": [result.input_hash for result in results.values()]},
        ).fetchall()
        written = {job_id: results[job_id] for (job_id,) in locked}
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
        # a request under way is paid for: its answer is kept before the provider's client closes
        self._requests.shutdown(wait=True, cancel_futures=True)

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

    def _embed(self, postings: Sequence[Posting]) -> list[NDArray[np.float32] | JobFailure]:
        answers = self._embedder.embed([posting.text for posting in postings])
        if len(answers) != len(postings):
            raise TransientFailure(f"{self._embedder.model} gave {len(answers)} answers to {len(postings)} texts")
        return answers


def batches(embedder: TextEmbedder, texts: Batch) -> list[Batch]:
    """Divides the texts, in their order, into requests within the embedder's limits.

    A text that exceeds the limit of tokens has a request of its own.
    """
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


def _outcomes(batch: Batch, answer: list[NDArray[np.float32] | JobFailure] | JobFailure | None) -> Iterator[Outcome]:
    """None where a request was stopped: the worker releases its jobs."""
    if answer is None:
        return
    answers = [answer] * len(batch) if isinstance(answer, JobFailure) else answer
    for (posting, jobs), each in zip(batch.items(), answers, strict=True):
        yield from (_outcome(job, posting, each) for job in jobs)


def _outcome(job: Job, posting: Posting, answer: NDArray[np.float32] | JobFailure) -> Outcome:
    if isinstance(answer, JobFailure):
        return Outcome(job, failure=answer)
    norm = float(np.linalg.norm(answer))
    if not 0 < norm < float("inf"):
        return Outcome(job, failure=TransientFailure(f"the answer is an embedding of length {norm}"))
    # at unit length no distance can overflow or vanish
    return Outcome(job, EmbeddedPosting(posting.input_hash, Vector(answer / norm)))
