"""What a command works on: the settings, and the database that they name."""

from collections.abc import Iterator
from contextlib import contextmanager

from matching_pipeline.db.connections import Connection, connect
from matching_pipeline.db.embedded import resolve_database_url
from matching_pipeline.db.migrations import require_migrated
from matching_pipeline.settings import Settings


def open_settings() -> tuple[Settings, str]:
    """The settings and the database's URL; starts an embedded server where they name none."""
    settings = Settings()
    return settings, resolve_database_url(settings)


@contextmanager
def connected() -> Iterator[tuple[Settings, Connection]]:
    """Settings that name the database, and a session on it, which is migrated."""
    settings, database_url = open_settings()
    with connect(database_url) as connection:
        require_migrated(connection)
        yield settings.model_copy(update={"database_url": database_url}), connection
