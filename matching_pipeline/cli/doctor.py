"""`matching-pipeline doctor`: whether database, providers and picture store fit the settings."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import psycopg

from matching_pipeline.db.connections import Connection, connect
from matching_pipeline.db.migrations import require_migrated, require_version
from matching_pipeline.errors import ConfigurationError, JobFailure, ProviderUnavailable
from matching_pipeline.models.registry import MODALITIES, current_model
from matching_pipeline.pictures.store import PictureStore
from matching_pipeline.providers.factory import (
    Modality,
    chosen_models,
    image_provider,
    openai_client,
    openai_image_generator,
    picture_provider,
    require_working,
    text_provider,
)
from matching_pipeline.settings import Settings
from matching_pipeline.sources import attached
from matching_pipeline.sources.declarations import Declarations
from matching_pipeline.sources.publications import publication_states

QUEUE = "doctor"
"""The call log records the requests made here under this name."""


@dataclass(frozen=True)
class Finding:
    what: str
    fits: bool
    because: str


def findings(settings: Settings, database_url: str, declarations: Declarations) -> Iterator[Finding]:
    """Yields each finding at once. It makes real requests to a provider, which cost a small part of a cent."""
    database = _finding("database", lambda: _database(database_url))
    yield database
    makers = {"images": image_provider(settings), "texts": text_provider(settings)}
    pictures = picture_provider(settings)
    for modality, (what, maker) in zip(MODALITIES, makers.items(), strict=True):
        if database.fits or maker in ("local", "fastembed"):
            yield _finding(what, partial(_working, settings, database_url, modality))
    if pictures == "local":
        yield Finding("pictures", True, "the local provider: no key, no network")
    if not database.fits:
        if {"openai", "multimodal"} & {*makers.values(), pictures}:
            yield Finding("provider", False, "not asked: the call log needs the database")
        return
    yield from _sources(database_url, declarations)
    if pictures == "openai":
        yield _finding("pictures", lambda: _pictures(settings, database_url))
    yield _finding("picture store", lambda: _picture_store(settings, database_url))
    for modality in MODALITIES:
        yield _finding(f"{modality} model", partial(_registered_models, settings, database_url, modality))


def unchosen_models(settings: Settings, connection: Connection) -> list[str]:
    """A line for each modality whose active model is not the one that the settings choose."""
    lines = (_unchosen(settings, connection, modality) for modality in MODALITIES)
    return [line for line in lines if line is not None]


def _unchosen(settings: Settings, connection: Connection, modality: Modality) -> str | None:
    chosen = chosen_models(settings)[modality]
    active = current_model(connection, modality, "active")
    if active in (None, chosen):
        return None
    if chosen == current_model(connection, modality, "shadow"):
        then = f"it is the shadow until `matching-pipeline model activate {chosen}`"
    else:
        then = f"`matching-pipeline model add {modality}` makes it the shadow"
    return f"the active {modality} model is {active}; the settings choose {chosen}: {then}"


def _finding(what: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(what, True, look())
    except (ConfigurationError, ProviderUnavailable, JobFailure, psycopg.Error) as error:
        return Finding(what, False, str(error).strip())
    except Exception as error:
        return Finding(what, False, f"{type(error).__name__}: {error}")


def _database(database_url: str) -> str:
    with connect(database_url) as connection:
        require_version(connection.info.server_version)
        require_migrated(connection)
        return f"PostgreSQL {connection.info.server_version // 10_000}, the schema is up to date"


def _sources(database_url: str, declarations: Declarations) -> Iterator[Finding]:
    """A finding for each source that is declared or attached."""
    with connect(database_url) as connection:
        misfits, others = attached.misfits(connection, declarations), attached.undeclared(connection, declarations)
        because = "; ".join([*misfits, *others]) or "all declared sources and matchers are attached"
        yield Finding("sources", not misfits, because)
        for state in attached.source_states(connection):
            yield Finding(f"source {state.name}", not state.problems, "; ".join(state.problems) or str(state))
        for publication in publication_states(connection):
            because = "; ".join(publication.problems) or str(publication)
            yield Finding(f"matcher {publication.matcher}", not publication.problems, because)


def _working(settings: Settings, database_url: str, modality: Modality) -> str:
    made = require_working(settings, database_url, QUEUE, modality, chosen_models(settings)[modality])
    return f"{made.model} works, with {made.dimensions} dimensions"


def _pictures(settings: Settings, database_url: str) -> str:
    with openai_client(settings, database_url, QUEUE) as client:
        openai_image_generator(settings, client).probe()
        return f"the key is accepted; the model {settings.openai_image_model} exists (no picture was bought)"


def _picture_store(settings: Settings, database_url: str) -> str:
    url = settings.model_copy(update={"database_url": database_url}).pictures_url
    PictureStore(url).probe()
    return f"pictures can be written to {url}"


def _registered_models(settings: Settings, database_url: str, modality: Modality) -> str:
    """Names the active model and the shadow. Makes a request to each that the settings do not choose."""
    chosen = chosen_models(settings)[modality]
    with connect(database_url) as connection:
        active = current_model(connection, modality, "active")
        shadow = current_model(connection, modality, "shadow")
        unchosen = _unchosen(settings, connection, modality)
    for model in (active, shadow):
        if model is not None and model != chosen:
            require_working(settings, database_url, QUEUE, modality, model)
    first = f"{active} is active" if active else f"{chosen} will be the first"
    return unchosen or (f"{first}, {shadow} is the shadow" if shadow else first)
