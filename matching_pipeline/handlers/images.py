"""The `image_ai` lane: fetch an image, analyse it once, write its embedding and attributes."""

import hashlib
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import Any, Self
from uuid import UUID

import numpy as np
from pgvector import Vector
from psycopg.types.json import Jsonb

from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import query
from matching_pipeline.errors import PermanentFailure, TransientFailure, as_job_failure
from matching_pipeline.models import registry as models
from matching_pipeline.pictures.decode import decode, thumbnail
from matching_pipeline.pictures.fetch import ImageFetcher
from matching_pipeline.providers.protocols import ImageAnalyzer
from matching_pipeline.queues.client import Job
from matching_pipeline.queues.worker import Outcome

QUEUE = models.QUEUES["image"]
SHADOW_QUEUE = models.shadow_queue(QUEUE)
GATHER_SECONDS = 0.25
"""Results that are ready are gathered for so long, and written in one transaction."""


@dataclass(frozen=True, eq=False)
class Picture:
    """The bytes of one item's image, as fetched."""

    job: Job
    url: str
    data: bytes

    @cached_property
    def content_hash(self) -> bytes:
        return hashlib.sha256(self.data).digest()


@dataclass(frozen=True)
class Analysis:
    embedding: Vector
    attributes: dict[str, Any]
    thumbnail: bytes
    vision_model: str | None
    input_tokens: int | None
    output_tokens: int | None


@dataclass(frozen=True)
class AnalysedImage:
    url: str
    content_hash: bytes
    analysis: Analysis


class ImageHandler:
    """Fetches and analyses with a few threads; pictures that are known already are not analysed again."""

    lease = timedelta(minutes=2)

    def __init__(
        self, analyzer: ImageAnalyzer, fetcher: ImageFetcher, *, max_pixels: int, concurrency: int, queue: str = QUEUE
    ) -> None:
        self.queue = queue
        # enough that one slow answer leaves the others something to do
        self.batch_size = max(2 * concurrency, 4 * analyzer.concurrency)
        self._analyzer = analyzer
        self._fetcher = fetcher
        self._max_pixels = max_pixels
        self._fetches = ThreadPoolExecutor(concurrency, thread_name_prefix="fetch")
        self._analyses = ThreadPoolExecutor(analyzer.concurrency, thread_name_prefix="analyse")

    def work(self, connection: Connection, jobs: Sequence[Job]) -> Iterator[list[Outcome]]:
        urls = self._urls(connection, jobs)
        # an image that is gone, or no longer a project's, owes nothing
        yield [Outcome(job) for job in jobs if job not in urls]
        without_url = PermanentFailure("the image has no URL")
        yield [Outcome(job, failure=without_url) for job, url in urls.items() if not url]
        fetches = {self._fetches.submit(self._fetcher.fetch, url): (job, url) for job, url in urls.items() if url}
        analyses: dict[bytes, Future[Analysis]] = {}
        awaited: list[Picture] = []
        running: set[Future[Any]] = set(fetches)
        ready: list[Outcome] = []
        yielded = time.monotonic()
        try:
            while running:
                done, _ = wait(running, timeout=GATHER_SECONDS, return_when=FIRST_COMPLETED)
                failures, pictures = _fetched(
                    {future: fetches.pop(future) for future in [*fetches] if future in done}
                )
                known, unknown = self._split_known(connection, pictures)
                awaited += unknown
                for picture in unknown:
                    if picture.content_hash not in analyses:
                        analyses[picture.content_hash] = self._analyses.submit(self._analysis, picture.data)
                analysed = [picture for picture in awaited if analyses[picture.content_hash].done()]
                ready += [*failures, *known, *(_outcome(each, analyses[each.content_hash]) for each in analysed)]
                awaited = [picture for picture in awaited if picture not in analysed]
                running = {*fetches, *(analyses[picture.content_hash] for picture in awaited)}
                if not running or time.monotonic() - yielded >= GATHER_SECONDS:
                    yield ready
                    ready, yielded = [], time.monotonic()
        finally:
            running = {*fetches, *analyses.values()}
            for future in running:
                future.cancel()

    def prepare_write(self, connection: Connection) -> None:
        """Images are independent of each other; their model must still be the lane's."""
        models.hold_role(connection, self._analyzer, self.queue)

    def write(self, connection: Connection, outcomes: Sequence[Outcome]) -> None:
        for source, lock in (("project", "lock_project_images"), ("product", "lock_product_images")):
            results = {
                outcome.job.entity_id: outcome.result
                for outcome in outcomes
                if outcome.job.entity_kind == source and outcome.result is not None
            }
            standing = connection.execute(query(lock), {"image_ids": list(results)}).fetchall()
            # where the URL was edited meanwhile, the edit has queued the image again: the newer wins
            self._upsert(
                connection,
                source,
                {image_id: results[image_id] for image_id, url in standing if results[image_id].url == url},
            )

    def forget(self, connection: Connection, job: Job) -> None:
        connection.execute(query("forget_outdated_image"), {"source": job.entity_kind, "image_id": job.entity_id})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._fetches.shutdown(wait=False, cancel_futures=True)
        self._analyses.shutdown(wait=False, cancel_futures=True)

    def _urls(self, connection: Connection, jobs: Sequence[Job]) -> dict[Job, str | None]:
        rows = connection.execute(query("image_urls"), {"image_ids": [job.entity_id for job in jobs]})
        urls = {(source, image_id): url for source, image_id, url in rows}
        keys = {job: (job.entity_kind, job.entity_id) for job in jobs}
        return {job: urls[key] for job, key in keys.items() if key in urls}

    def _split_known(
        self, connection: Connection, pictures: Sequence[Picture]
    ) -> tuple[list[Outcome], list[Picture]]:
        """Outcomes of the pictures that were analysed before, and the others."""
        known = self._known(connection, {picture.content_hash for picture in pictures}) if pictures else {}
        outcomes = [
            _analysed(picture, known[picture.content_hash]) for picture in pictures if picture.content_hash in known
        ]
        return outcomes, [picture for picture in pictures if picture.content_hash not in known]

    def _known(self, connection: Connection, content_hashes: set[bytes]) -> dict[bytes, Analysis]:
        rows = connection.execute(
            query("known_analyses"), {"content_hashes": list(content_hashes), "model": self._analyzer.model}
        )
        return {content_hash: Analysis(*analysis) for content_hash, *analysis in rows}

    def _analysis(self, data: bytes) -> Analysis:
        picture = decode(data, max_pixels=self._max_pixels)
        result = self._analyzer.analyze(picture)
        norm = float(np.linalg.norm(result.embedding))
        if not 0 < norm < float("inf"):
            raise TransientFailure(f"{self._analyzer.model} gave an embedding of length {norm}")
        return Analysis(
            *(Vector(result.embedding), dict(result.attributes), thumbnail(picture)),
            *(result.vision_model, result.input_tokens, result.output_tokens),
        )

    def _upsert(self, connection: Connection, source: str, results: dict[UUID, AnalysedImage]) -> None:
        if not results:
            return
        images = list(results.values())
        connection.execute(
            query("write_image_ai"),
            {
                "model": self._analyzer.model,
                "sources": [source] * len(images),
                "image_ids": list(results),
                "embeddings": [image.analysis.embedding for image in images],
                "attributes": [Jsonb(image.analysis.attributes) for image in images],
                "image_urls": [image.url for image in images],
                "content_hashes": [image.content_hash for image in images],
                "thumbnails": [image.analysis.thumbnail for image in images],
                "vision_models": [image.analysis.vision_model for image in images],
                "input_tokens": [image.analysis.input_tokens for image in images],
                "output_tokens": [image.analysis.output_tokens for image in images],
            },
        )


def _fetched(fetches: dict[Future[bytes], tuple[Job, str]]) -> tuple[list[Outcome], list[Picture]]:
    failures, pictures = [], []
    for future, (job, url) in fetches.items():
        if error := future.exception():
            failures.append(Outcome(job, failure=as_job_failure(error)))
        else:
            pictures.append(Picture(job, url, future.result()))
    return failures, pictures


def _outcome(picture: Picture, analysis: Future[Analysis]) -> Outcome:
    if error := analysis.exception():
        return Outcome(picture.job, failure=as_job_failure(error))
    return _analysed(picture, analysis.result())


def _analysed(picture: Picture, analysis: Analysis) -> Outcome:
    return Outcome(picture.job, AnalysedImage(picture.url, picture.content_hash, analysis))
