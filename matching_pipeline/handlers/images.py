"""The handler of the queues of pictures: it fetches each image, analyses it once, and writes what was found."""

import hashlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Self

import numpy as np
from pgvector import Vector
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import query
from matching_pipeline.errors import HostBusy, JobFailure, TransientFailure
from matching_pipeline.models import registry as models
from matching_pipeline.pictures.decode import decode, thumbnail
from matching_pipeline.pictures.fetch import ImageFetcher
from matching_pipeline.pictures.memory import Memory
from matching_pipeline.pictures.web import Content
from matching_pipeline.providers.protocols import ImageAnalyzer, same_vectors
from matching_pipeline.queues.client import Job
from matching_pipeline.queues.futures import Futures
from matching_pipeline.queues.handler import Outcome
from matching_pipeline.sources.items import NO_URL, forget_outdated, read_items, write_mirror
from matching_pipeline.sources.reading import SourceRow

GATHER_SECONDS = 0.25
"""The handler collects results for this long. The worker writes them in one transaction."""
ANALYSED_SIDE = 768
"""Pixels of the longer side. Each picture is scaled down to this before it is analysed."""


@dataclass(frozen=True)
class KnownVersion:
    """The version of the picture at this URL that was analysed before."""

    source: str
    item_key: str
    url: str
    version: str
    """an ETag or a date, as its host gave it"""
    content_hash: bytes


@dataclass(frozen=True)
class QueuedImage:
    """A job with its image's row, as the database had it after the worker claimed the job."""

    job: Job
    row: SourceRow = field(hash=False)
    url: str
    known: KnownVersion | None = None


@dataclass(frozen=True)
class Fetched:
    """What the host answered: a picture, or that it has not changed since the known version."""

    content_hash: bytes
    data: bytes | None
    """None if the picture has not changed"""
    version: str | None


@dataclass(frozen=True)
class Analysis:
    content_hash: bytes
    embedding: Vector
    attributes: dict[str, Any]
    thumbnail: bytes
    vision_model: str | None
    input_tokens: int | None
    output_tokens: int | None


@dataclass(frozen=True)
class AnalysedImage:
    row: SourceRow
    analysis: Analysis
    version: str | None


class ImageHandler:
    """Fetches and analyses several images at once. A picture with a known analysis is not analysed again."""

    lease = timedelta(minutes=2)

    def __init__(
        self,
        analyzer: ImageAnalyzer,
        fetcher: ImageFetcher,
        *,
        memory: Memory,
        concurrency: int,
        queue: str,
        revalidates: bool = False,
    ) -> None:
        self.queue = queue
        # more jobs than threads, so that the others have work while one is slow
        self.batch_size = max(2 * concurrency, 4 * analyzer.concurrency)
        self._analyzer = analyzer
        self._fetcher = fetcher
        self._memory = memory
        self._revalidates = revalidates
        self._analyses = ThreadPoolExecutor(analyzer.concurrency, thread_name_prefix="analyse")

    def work(self, connection: Connection, jobs: Sequence[Job]) -> Iterator[list[Outcome]]:
        images, outcomes = read_items(connection, jobs)
        yield outcomes
        yield [Outcome(job, failure=NO_URL) for job, row in images.items() if not row.content]
        running: Futures[QueuedImage] = Futures()
        known_versions = self._known_versions(connection, images)
        for job, row in images.items():
            if row.content:
                known_version = known_versions.get((job.source, row.item_key, row.content))
                image = QueuedImage(job, row, row.content, known_version)
                version = known_version.version if known_version else None
                running.add(self._fetcher.submit(row.content, version), image, paid=False)
        analyses: dict[bytes, Future[Analysis]] = {}
        versions: dict[QueuedImage, str | None] = {}
        ready: list[Outcome] = []
        last_yield = time.monotonic()
        for ended in running.ended(GATHER_SECONDS):
            fetched = {image: _fetched(image, result) for image, result in ended if isinstance(result, Content)}
            versions |= {image: picture.version for image, picture in fetched.items()}
            known = self._known_analyses(connection, {picture.content_hash for picture in fetched.values()})
            for image, picture in fetched.items():
                if picture.content_hash not in known:
                    if picture.content_hash not in analyses:
                        analyses[picture.content_hash] = self._analyses.submit(self._analyse, picture)
                    running.add(analyses[picture.content_hash], image)
            ready += _outcomes(ended, versions)
            ready += _outcomes(
                [(image, known.get(picture.content_hash)) for image, picture in fetched.items()], versions
            )
            if not running or time.monotonic() - last_yield >= GATHER_SECONDS:
                yield ready
                ready, last_yield = [], time.monotonic()

    def prepare_write(self, connection: Connection) -> None:
        """Raises ModelSwitched if the analyzer is not the model of the queue any more."""
        models.hold_role(connection, self._analyzer, self.queue)

    def write(self, connection: Connection, outcomes: Sequence[Outcome]) -> None:
        analysed = write_mirror(connection, self.queue, outcomes)
        rows = []
        for outcome, row in analysed:
            analysis, url = outcome.result.analysis, outcome.result.row.content
            # if the app has changed the URL since it was read, the image is in the queue again
            if row.content == url:
                image = {"source": outcome.job.source, "item_key": row.item_key, "input": url, **vars(analysis)}
                image["version"] = outcome.result.version
                rows.append(image | {"attributes": Jsonb(analysis.attributes)})
        if rows:
            columns = {name: [row[name] for row in rows] for name in rows[0]}
            connection.execute(query("write_image_embeddings"), {"model": self._analyzer.model, **columns})

    def forget(self, connection: Connection, job: Job) -> None:
        forget_outdated(connection, self.queue, job)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        # A running request costs money, so its answer is stored before the provider's client closes.
        self._analyses.shutdown(wait=True, cancel_futures=True)

    def _known_versions(
        self, connection: Connection, images: Mapping[Job, SourceRow]
    ) -> dict[tuple[str, str | None, str], KnownVersion]:
        """By source, item and URL. Without IMAGE_LOOK_AGAIN_DAYS there are none, so each picture is fetched whole."""
        if not (images and self._revalidates):
            return {}
        parameters = {
            "sources": [job.source for job in images],
            "item_keys": [row.item_key for row in images.values()],
        }
        with connection.cursor(row_factory=class_row(KnownVersion)) as cursor:
            rows = cursor.execute(query("seen_pictures"), {**parameters, "model": self._analyzer.model}).fetchall()
        return {(row.source, row.item_key, row.url): row for row in rows}

    def _known_analyses(self, connection: Connection, content_hashes: set[bytes]) -> dict[bytes, Analysis]:
        if not content_hashes:
            return {}
        with connection.cursor(row_factory=class_row(Analysis)) as cursor:
            parameters = {"content_hashes": list(content_hashes), "models": same_vectors(self._analyzer)}
            return {known.content_hash: known for known in cursor.execute(query("known_analyses"), parameters)}

    def _analyse(self, fetched: Fetched) -> Analysis:
        if fetched.data is None:
            raise TransientFailure("its stored analysis was deleted while the host answered: it is fetched again")
        picture = decode(fetched.data, side=ANALYSED_SIDE, memory=self._memory)
        result = self._analyzer.analyze(picture)
        norm = float(np.linalg.norm(result.embedding))
        if not 0 < norm < float("inf"):
            raise TransientFailure(f"{self._analyzer.model} gave an embedding of length {norm}")
        return Analysis(
            *(fetched.content_hash, Vector(result.embedding), dict(result.attributes), thumbnail(picture)),
            *(result.vision_model, result.input_tokens, result.output_tokens),
        )


def _fetched(image: QueuedImage, content: Content) -> Fetched:
    if content.data is None:
        assert image.known is not None
        return Fetched(image.known.content_hash, None, image.known.version)
    return Fetched(hashlib.sha256(content.data).digest(), content.data, content.version)


def _outcomes(
    results: Iterable[tuple[QueuedImage, Any]], versions: Mapping[QueuedImage, str | None]
) -> Iterator[Outcome]:
    """The outcome of each image that was analysed or has failed. Other results have none."""
    for image, result in results:
        if isinstance(result, HostBusy):
            yield Outcome(image.job, must_wait=result)
        elif isinstance(result, JobFailure):
            yield Outcome(image.job, failure=result)
        elif isinstance(result, Analysis):
            yield Outcome(image.job, AnalysedImage(image.row, result, versions[image]))
