"""The lanes there are, and a drain of each as the settings want it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from matching_pipeline.ai.providers import image_analyzer, image_generator, text_embedder
from matching_pipeline.db.connections import connect
from matching_pipeline.drain import Drain, Stage, Summary
from matching_pipeline.images.fetch import FetchLimits, ImageFetcher
from matching_pipeline.images.picture_store import PictureStore
from matching_pipeline.settings import Settings
from matching_pipeline.stages import faces, generation, images, matching, postings
from matching_pipeline.stages.faces import FaceStage
from matching_pipeline.stages.generation import GenerationStage
from matching_pipeline.stages.images import ImageStage
from matching_pipeline.stages.matching import MatchingStage
from matching_pipeline.stages.postings import PostingStage

IMAGE_AI = images.LANE
JOB_EMBEDDINGS = postings.LANE
MATCHES = matching.LANE
FACES = faces.LANE
GENERATED_IMAGES = generation.LANE
LANES = (IMAGE_AI, JOB_EMBEDDINGS, MATCHES, FACES, GENERATED_IMAGES)
"""In the order in which work flows through them."""


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
    with open_stage(settings, database_url, lane) as stage:
        return Drain(
            database_url, stage, linger=linger, deadline=deadline, slots=slots, on_progress=on_progress
        ).run()


@contextmanager
def open_stage(settings: Settings, database_url: str, lane: str) -> Iterator[Stage]:
    match lane:
        case images.LANE:
            with _image_stage(settings, database_url) as stage:
                yield stage
        case postings.LANE:
            with _posting_stage(settings, database_url) as stage:
                yield stage
        case matching.LANE:
            yield MatchingStage()
        case faces.LANE:
            yield FaceStage()
        case generation.LANE:
            with _generation_stage(settings) as stage:
                yield stage
        case _:
            raise ValueError(f"there is no lane {lane!r}, only {', '.join(LANES)}")


@contextmanager
def _image_stage(settings: Settings, database_url: str) -> Iterator[ImageStage]:
    analyzer = image_analyzer(settings)
    with connect(database_url) as connection:
        images.register_model(connection, analyzer)
    with ImageFetcher(fetch_limits(settings)) as fetcher:
        stage = ImageStage(
            analyzer, fetcher, max_pixels=settings.image_max_pixels, concurrency=settings.image_concurrency
        )
        with stage:
            yield stage


@contextmanager
def _posting_stage(settings: Settings, database_url: str) -> Iterator[PostingStage]:
    embedder = text_embedder(settings)
    with connect(database_url) as connection:
        postings.register_model(connection, embedder)
    with PostingStage(embedder) as stage:
        yield stage


@contextmanager
def _generation_stage(settings: Settings) -> Iterator[GenerationStage]:
    generator, store = image_generator(settings), PictureStore(settings.pictures_url)
    with (
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
