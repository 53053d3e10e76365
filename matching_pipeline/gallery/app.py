"""The web application of the gallery. `make_app` is all that the rest of the pipeline needs of it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from matching_pipeline.gallery import (
    browsing,
    dead_letters,
    entities,
    freshness,
    judging,
    packs,
    pairs,
    pictures,
    searching,
    sources,
)
from matching_pipeline.gallery.access import Access, require_protection
from matching_pipeline.gallery.faults import FAULTS
from matching_pipeline.gallery.forms import writes
from matching_pipeline.gallery.metrics import metrics, registry_of
from matching_pipeline.gallery.rendering import State
from matching_pipeline.settings import Settings

STATIC = Path(__file__).parent / "static"


def make_app(settings: Settings, database_url: str, host: str = "127.0.0.1") -> Starlette:
    """`host` is the address that the server is bound to.

    Raises ConfigurationError if everyone who reaches that address could read everything.
    """
    require_protection(settings, host)
    state = State(settings, database_url)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        state.close()

    app = Starlette(
        routes=[
            Route("/", sources.all_sources, name="sources"),
            Route("/sources/{source}", browsing.browse, name="browse"),
            Route("/entities/{source}/{id:uuid}", entities.entity, name="entity"),
            Route("/pairs/{matcher}/{left:uuid}/{right:uuid}", pairs.pair, name="pair"),
            writes("/search", searching.search, "search"),
            Route("/why-not", pairs.why_not, name="why_not"),
            writes("/label", pairs.label, "label"),
            Route("/judge/{matcher}", judging.judge, name="judge"),
            Route("/blind/{matcher}", judging.any_blind, name="any_blind"),
            Route("/blind/{matcher}/{source}/{id:uuid}", judging.blind, name="blind"),
            Route("/freshness", freshness.freshness, name="freshness"),
            Route("/packs", packs.packs, name="packs"),
            writes("/ask-again", packs.ask_again, "ask_again"),
            Route("/dead-letters", dead_letters.dead_letters, name="dead_letters"),
            writes("/retry", dead_letters.retry, "retry"),
            Route("/thumbnails/{source}/{item:uuid}", pictures.thumbnail, name="thumbnail"),
            Route("/pictures/{source}/{item:uuid}", pictures.picture, name="picture"),
            Route("/made/{source}/{image_type}", pictures.made_picture, name="made_picture"),
            Route("/metrics", metrics, name="metrics"),
            Mount("/static", StaticFiles(directory=STATIC), name="static"),
        ],
        middleware=[Middleware(Access, settings=settings)],
        exception_handlers=FAULTS,
        lifespan=lifespan,
    )
    app.state.gallery = state
    app.state.metrics = registry_of(state.sessions)
    return app
