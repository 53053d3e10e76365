"""The queues there are, and the handler of each as the settings want it."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID

from matching_pipeline.db.connections import Connection, connect
from matching_pipeline.db.queries import named_rows
from matching_pipeline.errors import ModelSwitched
from matching_pipeline.handlers import generation, images, texts
from matching_pipeline.handlers.faces import FaceHandler
from matching_pipeline.handlers.generation import GenerationHandler
from matching_pipeline.handlers.images import ImageHandler
from matching_pipeline.handlers.matches import MatchHandler
from matching_pipeline.handlers.texts import TextHandler
from matching_pipeline.matches import faces, projects
from matching_pipeline.models import registry as models
from matching_pipeline.models.registry import forget_work_of_no_model
from matching_pipeline.pictures.fetch import FetchLimits, ImageFetcher
from matching_pipeline.pictures.store import PictureStore
from matching_pipeline.providers.factory import image_analyzer, image_generator, text_embedder
from matching_pipeline.providers.protocols import EmbeddingProvider
from matching_pipeline.queues.worker import Handler, Summary, Worker
from matching_pipeline.settings import Settings

IMAGE_AI, IMAGE_AI_SHADOW = images.QUEUE, images.SHADOW_QUEUE
JOB_EMBEDDINGS, JOB_EMBEDDINGS_SHADOW = texts.QUEUE, texts.SHADOW_QUEUE
MATCHES = projects.QUEUE
FACES = faces.QUEUE
GENERATED_IMAGES = generation.QUEUE
SHADOWS = (IMAGE_AI_SHADOW, JOB_EMBEDDINGS_SHADOW)
"""Queues of a model that is not the active one: no reader waits for them."""
QUEUES = (IMAGE_AI, JOB_EMBEDDINGS, MATCHES, FACES, GENERATED_IMAGES, *SHADOWS)
"""In the order in which work flows through them."""
COVERAGE = {
    IMAGE_AI: "image_ai_coverage",
    JOB_EMBEDDINGS: "job_embeddings_coverage",
    MATCHES: "matches_coverage",
    FACES: "faces_coverage",
    GENERATED_IMAGES: "generated_images_coverage",
    IMAGE_AI_SHADOW: "image_ai_shadow_coverage",
    JOB_EMBEDDINGS_SHADOW: "job_embeddings_shadow_coverage",
}
"""The query that counts the entities of a queue, and how many have a result."""
WAIT_SECONDS = 0.5
"""Between two looks at jobs that another worker has leased."""


def in_use(connection: Connection) -> list[str]:
    """The queues, without those of a shadow model where there is none."""
    return [queue for queue in QUEUES if queue not in SHADOWS or models.model_of(connection, queue)]


@dataclass(frozen=True)
class WorkedOff:
    """What became of the jobs that were unfinished in a queue."""

    jobs: int
    failed: int
    """here or in another worker"""
    summary: Summary
    """of what was done here"""


def process_due(
    settings: Settings, database_url: str, queue: str, on_progress: Callable[[Summary], None] = lambda summary: None
) -> Summary:
    """Does the jobs of one queue that are due, and returns when none is."""
    try:
        with open_handler(settings, database_url, queue) as handler:
            return Worker(database_url, handler, on_progress=on_progress).run()
    except ModelSwitched as reason:
        return Summary(stopped_because=str(reason))


def work_off(
    settings: Settings,
    database_url: str,
    queue: str,
    *,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    on_wait: Callable[[list[UUID]], None] = lambda jobs: None,
) -> WorkedOff:
    """Does the jobs that are due in one queue now, and waits for those that other workers have leased.

    `on_progress` is called with (done, total); `on_wait` with the jobs' ids whenever nothing was left to do here.
    """
    total = Summary()

    def advance(summary: Summary) -> None:
        on_progress(min(summary.counts.total(), len(ids)), len(ids))

    with connect(database_url) as connection:
        ids = [row["id"] for row in named_rows(connection, "unfinished_items", queue=queue, ids=None)]
        while left := named_rows(connection, "unfinished_items", queue=queue, ids=ids):
            on_progress(len(ids) - len(left), len(ids))
            summary = process_due(
                settings,
                database_url,
                queue,
                advance,
            )
            total.add(summary)
            if not summary.counts.total():
                on_wait(ids)
                time.sleep(WAIT_SECONDS)
        on_progress(len(ids), len(ids))
        failed = len(named_rows(connection, "failed_items", queue=queue, ids=ids))
    return WorkedOff(len(ids), max(failed, total.counts["failed"]), total)


@contextmanager
def open_handler(settings: Settings, database_url: str, queue: str) -> Iterator[Handler]:
    """Raises ModelSwitched where the queue's model is no longer registered."""
    match queue:
        case images.QUEUE | images.SHADOW_QUEUE:
            with _image_handler(settings, database_url, queue) as handler:
                yield handler
        case texts.QUEUE | texts.SHADOW_QUEUE:
            with _text_handler(settings, database_url, queue) as handler:
                yield handler
        case projects.QUEUE:
            yield MatchHandler(settings.match_part_images)
        case faces.QUEUE:
            yield FaceHandler()
        case generation.QUEUE:
            with _generation_handler(settings, database_url) as handler:
                yield handler
        case _:
            raise ValueError(f"there is no queue {queue!r}, only {', '.join(QUEUES)}")


@contextmanager
def _image_handler(settings: Settings, database_url: str, queue: str) -> Iterator[ImageHandler]:
    model = _model(database_url, queue)
    with (
        image_analyzer(settings, database_url, queue, model) as analyzer,
        ImageFetcher(fetch_limits(settings)) as fetcher,
    ):
        _require_dimensions(database_url, analyzer)
        handler = ImageHandler(
            analyzer,
            fetcher,
            max_pixels=settings.image_max_pixels,
            concurrency=settings.image_concurrency,
            queue=queue,
        )
        with handler:
            yield handler


@contextmanager
def _text_handler(settings: Settings, database_url: str, queue: str) -> Iterator[TextHandler]:
    with text_embedder(settings, database_url, queue, _model(database_url, queue)) as embedder:
        _require_dimensions(database_url, embedder)
        with TextHandler(embedder, queue) as handler:
            yield handler


def _model(database_url: str, queue: str) -> str | None:
    """The queue's model; None where the settings choose the first. Raises ModelSwitched where there is no shadow."""
    with connect(database_url) as connection:
        model = models.model_of(connection, queue)
        if model is None and queue in SHADOWS:
            # transactions of the app that ended after the model was retired left them
            forget_work_of_no_model(connection)
            raise ModelSwitched(f"there is no model for the queue {queue}: `matching-pipeline model add` makes one")
    return model


def _require_dimensions(database_url: str, provider: EmbeddingProvider) -> None:
    with connect(database_url) as connection:
        models.require_dimensions(connection, provider)


@contextmanager
def _generation_handler(settings: Settings, database_url: str) -> Iterator[GenerationHandler]:
    store = PictureStore(settings.pictures_url)
    with (
        image_generator(settings, database_url, generation.QUEUE) as generator,
        ImageFetcher(fetch_limits(settings)) as fetcher,
        GenerationHandler(generator, fetcher, store, max_pixels=settings.image_max_pixels) as handler,
    ):
        yield handler


def fetch_limits(settings: Settings) -> FetchLimits:
    return FetchLimits(
        max_bytes=settings.image_max_bytes,
        timeout_seconds=settings.image_timeout_seconds,
        max_redirects=settings.image_max_redirects,
        allow_private_hosts=settings.image_allow_private_hosts,
        file_roots=settings.readable_folders,
    )
