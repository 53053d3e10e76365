"""Whether everything fits before anything runs: what `matching-pipeline check` prints."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import psycopg

from matching_pipeline.ai.providers import (
    image_provider,
    openai_client,
    openai_image_analyzer,
    openai_text_embedder,
    text_provider,
)
from matching_pipeline.db.connections import connect
from matching_pipeline.db.migrations import require_migrated, require_version
from matching_pipeline.db.queries import query
from matching_pipeline.failures import ConfigurationError, ItemFailure, ProviderUnavailable
from matching_pipeline.settings import Settings

LANE = "check"
"""Under which the requests made here stand in the ledger."""


@dataclass(frozen=True)
class Finding:
    what: str
    fits: bool
    because: str


def findings(settings: Settings, database_url: str) -> Iterator[Finding]:
    """What was found, as it is found. A provider is asked for real, which costs a small part of a cent."""
    database = _finding("database", lambda: _database(database_url))
    yield database
    providers = {"images": image_provider(settings), "texts": text_provider(settings)}
    for what, provider in providers.items():
        if provider == "local":
            yield Finding(what, True, "the local provider: no key, no network")
    if "openai" not in providers.values():
        return
    if not database.fits:
        yield Finding("provider", False, "not asked: the ledger of requests needs the database")
        return
    yield _finding("embeddings", lambda: _embeddings(settings, database_url))
    if providers["images"] == "openai":
        yield _finding("vision", lambda: _vision(settings, database_url))
        yield _finding("image model", lambda: _image_model(settings, database_url))


def _finding(what: str, check: Callable[[], str]) -> Finding:
    try:
        return Finding(what, True, check())
    except (ConfigurationError, ProviderUnavailable, ItemFailure, psycopg.Error) as error:
        return Finding(what, False, str(error).strip())
    except Exception as error:
        return Finding(what, False, f"{type(error).__name__}: {error}")


def _database(database_url: str) -> str:
    with connect(database_url) as connection:
        require_version(connection.info.server_version)
        require_migrated(connection)
        return f"PostgreSQL {connection.info.server_version // 10_000}, the schema is up to date"


def _embeddings(settings: Settings, database_url: str) -> str:
    with openai_client(settings, database_url, LANE) as client:
        embedder = openai_text_embedder(settings, client)
        embedder.probe()
        return f"the key is taken; {settings.openai_embedding_model} gives {embedder.dimensions} dimensions"


def _vision(settings: Settings, database_url: str) -> str:
    with openai_client(settings, database_url, LANE) as client:
        openai_image_analyzer(settings, client).probe()
        return f"the key is taken; {settings.openai_vision_model} describes pictures as the schema says"


def _image_model(settings: Settings, database_url: str) -> str:
    with openai_client(settings, database_url, LANE) as client, connect(database_url) as connection:
        model = openai_image_analyzer(settings, client).model
        active = connection.execute(query("active_image_model")).fetchone()
    if active not in (None, (model,)):
        raise ConfigurationError(f"IMAGE_ANALYZER: the active image model is {active and active[0]}, not {model}")
    return f"{model} is active" if active else f"{model} will be the first"
