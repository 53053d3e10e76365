"""The queues that are declared, and the handler of each as the settings want it."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID

from matching_pipeline.db.connections import Connection, connect
from matching_pipeline.db.queries import named_rows
from matching_pipeline.errors import ConfigurationError, ModelSwitched
from matching_pipeline.handlers.derived import DerivedHandler
from matching_pipeline.handlers.generation import GenerationHandler
from matching_pipeline.handlers.images import ImageHandler
from matching_pipeline.handlers.matches import MatchHandler
from matching_pipeline.handlers.publishing import PublishingHandler
from matching_pipeline.handlers.texts import TextHandler
from matching_pipeline.matches.matching import attached
from matching_pipeline.models import registry as models
from matching_pipeline.models.registry import forget_work_of_no_model, is_shadow
from matching_pipeline.pictures.fetch import FetchLimits, ImageFetcher
from matching_pipeline.pictures.memory import process_memory
from matching_pipeline.pictures.store import PictureStore
from matching_pipeline.providers.factory import Modality, image_analyzer, image_generator, text_embedder
from matching_pipeline.providers.protocols import EmbeddingProvider
from matching_pipeline.queues import client
from matching_pipeline.queues.client import Pause
from matching_pipeline.queues.handler import Handler
from matching_pipeline.queues.progress import Summary
from matching_pipeline.queues.worker import QueueWorker
from matching_pipeline.settings import Settings
from matching_pipeline.sources.declarations import Declarations
from matching_pipeline.sources.named_class import load_class

__all__ = ["is_shadow"]

WAIT_SECONDS = 0.5
"""Between two looks at jobs that another worker has leased."""


def queues(declarations: Declarations) -> list[str]:
    """All queues, in the order in which work flows through them; those of shadow models come last."""
    embedding = [name for name, work in declarations.queues.items() if work in ("image", "text")]
    return [*declarations.queues, *map(models.shadow_queue, embedding)]


def in_use(connection: Connection, declarations: Declarations) -> list[str]:
    """The queues, without those of a shadow model if there is none."""
    return [queue for queue in queues(declarations) if not is_shadow(queue) or models.model_of(connection, queue)]


@dataclass(frozen=True)
class Left:
    """Jobs that wait, as the queue is paused or a failure has put them off."""

    jobs: int
    until: str | None
    """when the first of them is due, in UTC"""
    reason: str | None


@dataclass(frozen=True)
class WorkedOff:
    """What became of the jobs that were unfinished in a queue."""

    jobs: int
    failed: int
    """here or in another worker"""
    summary: Summary
    """of what was done here"""
    left: Left
    pause: Pause | None


def process_due(
    settings: Settings,
    database_url: str,
    declarations: Declarations,
    queue: str,
    on_progress: Callable[[Summary], None] = lambda summary: None,
) -> Summary:
    """Does the jobs of one queue that are due, and returns when none is."""
    try:
        with open_handler(settings, database_url, declarations, queue) as handler:
            return QueueWorker(database_url, handler, on_progress=on_progress).run()
    except ModelSwitched as reason:
        return Summary(stopped_because=str(reason))


def work_off(
    settings: Settings,
    database_url: str,
    declarations: Declarations,
    queue: str,
    *,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    on_wait: Callable[[list[UUID]], None] = lambda jobs: None,
) -> WorkedOff:
    """Does the jobs that are due in one queue now, and waits for those that other workers have leased.

    It ends if the queue is paused.

    `on_progress` is called with (done, total); `on_wait` with the jobs' ids whenever nothing was left to do here.
    """
    total = Summary()

    def advance(summary: Summary) -> None:
        on_progress(min(summary.counts.total(), len(ids)), len(ids))

    with connect(database_url) as connection:
        ids = [row["id"] for row in named_rows(connection, "unfinished_jobs_of_queue", queue=queue, ids=None)]
        while left := named_rows(connection, "unfinished_jobs_of_queue", queue=queue, ids=ids):
            on_progress(len(ids) - len(left), len(ids))
            summary = process_due(settings, database_url, declarations, queue, advance)
            total.add(summary)
            if pause := client.queue_pause(connection, queue):
                break
            if not summary.counts.total():
                on_wait(ids)
                time.sleep(WAIT_SECONDS)
        else:
            pause = None
            on_progress(len(ids), len(ids))
        (put_off,) = named_rows(connection, "jobs_left", queue=queue, ids=ids)
        failed = len(named_rows(connection, "failed_jobs", queue=queue, ids=ids))
    return WorkedOff(len(ids), max(failed, total.counts["failed"]), total, Left(**put_off), pause)


@contextmanager
def open_handler(settings: Settings, database_url: str, declarations: Declarations, queue: str) -> Iterator[Handler]:
    """Raises ModelSwitched if the queue's model is no longer registered."""
    match declarations.queues.get(queue.removesuffix(models.SHADOW)):
        case "image":
            with embedding_handler(settings, database_url, queue, "image", _model(database_url, queue)) as handler:
                yield handler
        case "text":
            with embedding_handler(settings, database_url, queue, "text", _model(database_url, queue)) as handler:
                yield handler
        case "derive":
            with _derived_handler(settings, declarations, queue) as handler:
                yield handler
        case "match":
            yield _match_handler(settings, database_url, declarations, queue)
        case "generate":
            with _generation_handler(settings, database_url, queue) as handler:
                yield handler
        case "publish":
            yield PublishingHandler(queue)
        case _:
            raise ValueError(f"there is no queue {queue!r}, only {', '.join(queues(declarations))}")


def _match_handler(settings: Settings, database_url: str, declarations: Declarations, queue: str) -> Handler:
    (name,) = (matcher.name for matcher in declarations.matchers if matcher.queue == queue)
    with connect(database_url) as connection:
        matching = attached(connection, name, settings.match_part_images)
    return MatchHandler(queue, matching, mirrored_sources(declarations, matching.rule.sources))


def mirrored_sources(declarations: Declarations, sources: Iterable[str]) -> list[str]:
    """The sources with vectors of the app's: the handlers of matchers mirror them."""
    return [name for name in sources if declarations.source(name).vector]


@contextmanager
def embedding_handler(
    settings: Settings, database_url: str, queue: str, modality: Modality, model: str | None
) -> Iterator[ImageHandler | TextHandler]:
    """The handler that embeds with this model, or with the one that the settings choose."""
    opened = _image_handler if modality == "image" else _text_handler
    with opened(settings, database_url, queue, model) as handler:
        yield handler


@contextmanager
def _image_handler(settings: Settings, database_url: str, queue: str, model: str | None) -> Iterator[ImageHandler]:
    with (
        image_analyzer(settings, database_url, queue, model) as analyzer,
        ImageFetcher(fetch_limits(settings)) as fetcher,
    ):
        _require_dimensions(database_url, analyzer)
        handler = ImageHandler(
            analyzer,
            fetcher,
            memory=process_memory(settings.image_memory_bytes),
            concurrency=settings.image_concurrency,
            queue=queue,
            revalidates=settings.image_look_again_days is not None,
        )
        with handler:
            yield handler


@contextmanager
def _text_handler(settings: Settings, database_url: str, queue: str, model: str | None) -> Iterator[TextHandler]:
    with text_embedder(settings, database_url, queue, model) as embedder:
        _require_dimensions(database_url, embedder)
        with TextHandler(embedder, queue) as handler:
            yield handler


def _model(database_url: str, queue: str) -> str | None:
    """The queue's model; None if the settings choose the first. Raises ModelSwitched if there is no shadow."""
    with connect(database_url) as connection:
        model = models.model_of(connection, queue)
        if model is None and is_shadow(queue):
            # transactions of the app that ended after the model was retired have enqueued them
            forget_work_of_no_model(connection)
            raise ModelSwitched(f"there is no model for the queue {queue}: `matching-pipeline model add` makes one")
    return model


def _require_dimensions(database_url: str, provider: EmbeddingProvider) -> None:
    with connect(database_url) as connection:
        models.require_dimensions(connection, provider)


@contextmanager
def _derived_handler(settings: Settings, declarations: Declarations, queue: str) -> Iterator[Handler]:
    (declared,) = (each for each in declarations.derived if each.name == queue)
    found = load_class(queue, declared.handler)
    if not issubclass(found, DerivedHandler):
        raise ConfigurationError(f"{queue}: handler: {declared.handler} is not a DerivedHandler")
    with (
        ImageFetcher(fetch_limits(settings)) as fetcher,
        found(
            declared,
            fetcher,
            memory=process_memory(settings.image_memory_bytes),
            concurrency=settings.image_concurrency,
            is_text=declarations.source(declared.sources[0]).modality == "text",
        ) as handler,
    ):
        yield handler


@contextmanager
def _generation_handler(settings: Settings, database_url: str, queue: str) -> Iterator[GenerationHandler]:
    store = PictureStore(settings.pictures_url)
    with (
        image_generator(settings, database_url, queue) as generator,
        ImageFetcher(fetch_limits(settings)) as fetcher,
        GenerationHandler(
            queue, generator, fetcher, store, memory=process_memory(settings.image_memory_bytes)
        ) as handler,
    ):
        yield handler


def fetch_limits(settings: Settings) -> FetchLimits:
    return FetchLimits(
        max_bytes=settings.image_max_bytes,
        timeout_seconds=settings.image_timeout_seconds,
        max_redirects=settings.image_max_redirects,
        concurrency=settings.image_concurrency,
        host_concurrency=settings.image_host_concurrency,
        user_agent=settings.image_user_agent,
        base_url=settings.image_base_url,
        allow_private_hosts=settings.image_allow_private_hosts,
        file_roots=settings.readable_folders,
    )
