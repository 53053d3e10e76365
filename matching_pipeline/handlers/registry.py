"""The lanes there are, and a drain of each as the settings want it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from matching_pipeline.db.connections import Connection, connect
from matching_pipeline.errors import Superseded
from matching_pipeline.handlers import faces, generation, images
from matching_pipeline.handlers import matches as matching
from matching_pipeline.handlers import texts as postings
from matching_pipeline.handlers.faces import FaceStage
from matching_pipeline.handlers.generation import GenerationStage
from matching_pipeline.handlers.images import ImageStage
from matching_pipeline.handlers.matches import MatchingStage
from matching_pipeline.handlers.texts import PostingStage
from matching_pipeline.models import registry as models
from matching_pipeline.models.registry import Model, forget_work_of_no_model
from matching_pipeline.pictures.fetch import FetchLimits, ImageFetcher
from matching_pipeline.pictures.store import PictureStore
from matching_pipeline.providers.factory import image_analyzer, image_generator, text_embedder
from matching_pipeline.queues.worker import Drain, Stage, Summary
from matching_pipeline.settings import Settings

IMAGE_AI, IMAGE_AI_SHADOW = images.LANE, images.SHADOW_LANE
JOB_EMBEDDINGS, JOB_EMBEDDINGS_SHADOW = postings.LANE, postings.SHADOW_LANE
MATCHES = matching.LANE
FACES = faces.LANE
GENERATED_IMAGES = generation.LANE
SHADOWS = (IMAGE_AI_SHADOW, JOB_EMBEDDINGS_SHADOW)
"""What another model than the active one does: nothing that a reader waits for."""
LANES = (IMAGE_AI, JOB_EMBEDDINGS, MATCHES, FACES, GENERATED_IMAGES, *SHADOWS)
"""In the order in which work flows through them."""


def in_use(connection: Connection) -> list[str]:
    """The lanes without those of a shadow that there is not."""
    return [lane for lane in LANES if lane not in SHADOWS or models.model_in(connection, lane)]


def drain(
    settings: Settings,
    database_url: str,
    lane: str,
    *,
    linger: float = 0,
    deadline: float = float("inf"),
    slots: int = 64,
    on_progress: Callable[[Summary], None] = lambda summary: None,
) -> Summary:
    """Drains one lane; `deadline` is on the monotonic clock, `slots` how many drains of it may be alive."""
    try:
        with open_stage(settings, database_url, lane) as stage:
            return Drain(
                database_url, stage, linger=linger, deadline=deadline, slots=slots, on_progress=on_progress
            ).run()
    except Superseded as reason:
        return Summary(stopped_because=str(reason))


@contextmanager
def open_stage(settings: Settings, database_url: str, lane: str) -> Iterator[Stage]:
    """Raises Superseded where the lane's model is no more."""
    match lane:
        case images.LANE | images.SHADOW_LANE:
            with _image_stage(settings, database_url, lane) as stage:
                yield stage
        case postings.LANE | postings.SHADOW_LANE:
            with _posting_stage(settings, database_url, lane) as stage:
                yield stage
        case matching.LANE:
            yield MatchingStage()
        case faces.LANE:
            yield FaceStage()
        case generation.LANE:
            with _generation_stage(settings, database_url) as stage:
                yield stage
        case _:
            raise ValueError(f"there is no lane {lane!r}, only {', '.join(LANES)}")


@contextmanager
def _image_stage(settings: Settings, database_url: str, lane: str) -> Iterator[ImageStage]:
    model = _model(database_url, lane)
    with (
        image_analyzer(settings, database_url, lane, model) as analyzer,
        ImageFetcher(fetch_limits(settings)) as fetcher,
    ):
        _require_dimensions(database_url, analyzer)
        stage = ImageStage(
            analyzer, fetcher, max_pixels=settings.image_max_pixels, concurrency=settings.image_concurrency, lane=lane
        )
        with stage:
            yield stage


@contextmanager
def _posting_stage(settings: Settings, database_url: str, lane: str) -> Iterator[PostingStage]:
    with text_embedder(settings, database_url, lane, _model(database_url, lane)) as embedder:
        _require_dimensions(database_url, embedder)
        with PostingStage(embedder, lane) as stage:
            yield stage


def _model(database_url: str, lane: str) -> str | None:
    """The lane's model; None where the settings choose the first. Raises Superseded where there is no shadow."""
    with connect(database_url) as connection:
        model = models.model_in(connection, lane)
        if model is None and lane in SHADOWS:
            # left by transactions of the app that ended after it was retired
            forget_work_of_no_model(connection)
            raise Superseded(f"there is no model for the lane {lane}: `matching-pipeline model add` makes one")
    return model


def _require_dimensions(database_url: str, provider: Model) -> None:
    with connect(database_url) as connection:
        models.require_dimensions(connection, provider)


@contextmanager
def _generation_stage(settings: Settings, database_url: str) -> Iterator[GenerationStage]:
    store = PictureStore(settings.pictures_url)
    with (
        image_generator(settings, database_url, generation.LANE) as generator,
        ImageFetcher(fetch_limits(settings)) as fetcher,
        GenerationStage(generator, fetcher, store, max_pixels=settings.image_max_pixels) as stage,
    ):
        yield stage


def fetch_limits(settings: Settings) -> FetchLimits:
    return FetchLimits(
        max_bytes=settings.image_max_bytes,
        timeout_seconds=settings.image_timeout_seconds,
        max_redirects=settings.image_max_redirects,
        allow_private_hosts=settings.image_allow_private_hosts,
        file_roots=settings.readable_folders,
    )
