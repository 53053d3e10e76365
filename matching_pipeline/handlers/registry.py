"""The lanes there are, and a drain of each as the settings want it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from matching_pipeline.db.connections import Connection, connect
from matching_pipeline.errors import ModelSwitched
from matching_pipeline.handlers import faces, generation, images
from matching_pipeline.handlers import matches as matching
from matching_pipeline.handlers import texts as postings
from matching_pipeline.handlers.faces import FaceHandler
from matching_pipeline.handlers.generation import GenerationHandler
from matching_pipeline.handlers.images import ImageHandler
from matching_pipeline.handlers.matches import MatchHandler
from matching_pipeline.handlers.texts import TextHandler
from matching_pipeline.models import registry as models
from matching_pipeline.models.registry import forget_work_of_no_model
from matching_pipeline.pictures.fetch import FetchLimits, ImageFetcher
from matching_pipeline.pictures.store import PictureStore
from matching_pipeline.providers.factory import image_analyzer, image_generator, text_embedder
from matching_pipeline.providers.protocols import EmbeddingProvider
from matching_pipeline.queues.worker import Handler, Summary, Worker
from matching_pipeline.settings import Settings

IMAGE_AI, IMAGE_AI_SHADOW = images.QUEUE, images.SHADOW_QUEUE
JOB_EMBEDDINGS, JOB_EMBEDDINGS_SHADOW = postings.QUEUE, postings.SHADOW_QUEUE
MATCHES = matching.QUEUE
FACES = faces.QUEUE
GENERATED_IMAGES = generation.QUEUE
SHADOWS = (IMAGE_AI_SHADOW, JOB_EMBEDDINGS_SHADOW)
"""What another model than the active one does: nothing that a reader waits for."""
QUEUES = (IMAGE_AI, JOB_EMBEDDINGS, MATCHES, FACES, GENERATED_IMAGES, *SHADOWS)
"""In the order in which work flows through them."""


def in_use(connection: Connection) -> list[str]:
    """The lanes without those of a shadow that there is not."""
    return [queue for queue in QUEUES if queue not in SHADOWS or models.model_of(connection, queue)]


def drain(
    settings: Settings,
    database_url: str,
    queue: str,
    *,
    linger: float = 0,
    deadline: float = float("inf"),
    slots: int = 64,
    on_progress: Callable[[Summary], None] = lambda summary: None,
) -> Summary:
    """Drains one lane; `deadline` is on the monotonic clock, `slots` how many drains of it may be alive."""
    try:
        with open_handler(settings, database_url, queue) as handler:
            return Worker(
                database_url, handler, linger=linger, deadline=deadline, slots=slots, on_progress=on_progress
            ).run()
    except ModelSwitched as reason:
        return Summary(stopped_because=str(reason))


@contextmanager
def open_handler(settings: Settings, database_url: str, queue: str) -> Iterator[Handler]:
    """Raises Superseded where the lane's model is no more."""
    match queue:
        case images.QUEUE | images.SHADOW_QUEUE:
            with _image_handler(settings, database_url, queue) as handler:
                yield handler
        case postings.QUEUE | postings.SHADOW_QUEUE:
            with _text_handler(settings, database_url, queue) as handler:
                yield handler
        case matching.QUEUE:
            yield MatchHandler()
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
    """The lane's model; None where the settings choose the first. Raises Superseded where there is no shadow."""
    with connect(database_url) as connection:
        model = models.model_of(connection, queue)
        if model is None and queue in SHADOWS:
            # left by transactions of the app that ended after it was retired
            forget_work_of_no_model(connection)
            raise ModelSwitched(f"there is no model for the lane {queue}: `matching-pipeline model add` makes one")
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
