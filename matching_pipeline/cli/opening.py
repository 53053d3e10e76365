"""What a command works on: the settings, the database that they name, and what is declared."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from matching_pipeline.db.connections import Connection, connect
from matching_pipeline.db.embedded import resolve_database_url
from matching_pipeline.db.migrations import require_migrated
from matching_pipeline.settings import Settings
from matching_pipeline.sources.declarations import Declarations
from matching_pipeline.sources.documents import declarations_folder, load


class Opened(NamedTuple):
    settings: Settings
    """with the database's URL and the folder of declarations"""
    database_url: str
    declarations: Declarations


class Connected(NamedTuple):
    settings: Settings
    connection: Connection
    declarations: Declarations


def open_settings(*, sample_data: bool = False) -> Opened:
    """Starts an embedded server where the settings name no database.

    Raises ConfigurationError where there are no declarations.
    """
    settings = Settings()
    if sample_data:
        settings = settings.model_copy(update={"sample_data": True})
    folder = declarations_folder(settings)
    declarations, database_url = load(folder), resolve_database_url(settings)
    resolved = {"definitions_dir": folder.resolve(), "database_url": database_url}
    return Opened(settings.model_copy(update=resolved), database_url, declarations)


@contextmanager
def connected() -> Iterator[Connected]:
    """A session on the database, which is migrated."""
    settings, database_url, declarations = open_settings()
    with connect(database_url) as connection:
        require_migrated(connection)
        yield Connected(settings, connection, declarations)
