"""What a command works on: the settings, the database that they name, and what is declared."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

import psycopg

from matching_pipeline.db.connections import Connection, connect
from matching_pipeline.db.embedded import resolve_database_url
from matching_pipeline.db.migrations import migrate, require_migrated
from matching_pipeline.errors import ConfigurationError
from matching_pipeline.settings import Settings
from matching_pipeline.sources.attach import fit_problems
from matching_pipeline.sources.declarations import Declarations
from matching_pipeline.sources.documents import FaultyDeclarations, declarations_folder, load


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
    """Starts an embedded server if the settings name no database.

    Raises ConfigurationError if there are no declarations.
    """
    settings = Settings()
    if sample_data:
        settings = settings.model_copy(update={"sample_data": True})
    folder = declarations_folder(settings)
    declarations, database_url = load(folder), resolve_database_url(settings)
    resolved = {"definitions_dir": folder.resolve(), "database_url": database_url}
    return Opened(settings.model_copy(update=resolved), database_url, declarations)


def open_to_attach(*, migrates: bool = False) -> Opened:
    """As `open_settings`. If declarations are faulty, the error also names those that do not fit the database.

    With `migrates` it makes our schema for that, if it is missing.
    """
    try:
        return open_settings()
    except FaultyDeclarations as error:
        problems: list[str] = []
        with suppress(psycopg.Error, ConfigurationError), connect(resolve_database_url(Settings())) as connection:
            if migrates:
                migrate(connection)
            require_migrated(connection)
            problems = fit_problems(connection, error.sound)
        raise ConfigurationError("\n".join([str(error), *problems])) from None


@contextmanager
def connected() -> Iterator[Connected]:
    """A session on the database, which is migrated."""
    settings, database_url, declarations = open_settings()
    with connect(database_url) as connection:
        require_migrated(connection)
        yield Connected(settings, connection, declarations)
