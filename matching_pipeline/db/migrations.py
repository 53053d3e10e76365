"""Brings a database's schema up to date: migrations once, in order; functions always."""

from pathlib import Path

import psycopg

from matching_pipeline.db.connections import Connection
from matching_pipeline.db.files import ROOT
from matching_pipeline.db.queries import query
from matching_pipeline.errors import ConfigurationError

OLDEST_MAJOR_VERSION = 15
"""The first with views that respect their reader's rights."""


def migrate(connection: Connection) -> list[str]:
    """Applies what is missing, in one transaction, and returns the names of the migrations applied.

    Each migration file records its own name, so that psql and this function can take turns.
    Raises ConfigurationError where the server lacks pgvector, its version is too old, or the app's
    tables do not fit; nothing is changed then.
    """
    require_version(connection.info.server_version)
    with connection.transaction():
        connection.execute(query("lock_migrations"))
        applied = _applied(connection)
        missing = [file for file in _files("migrations") if file.stem not in applied]
        for file in [*missing, *_files("functions")]:
            _apply(connection, file)
    return [file.stem for file in missing]


def require_version(server_version: int) -> None:
    """Raises ConfigurationError for a server that is too old; the version is libpq's number, 160004 for 16.4."""
    if server_version < OLDEST_MAJOR_VERSION * 10_000:
        raise ConfigurationError(
            f"DATABASE_URL: PostgreSQL {OLDEST_MAJOR_VERSION} or later is needed, not {server_version // 10_000}"
        )


def pending_migrations(connection: Connection) -> list[str]:
    applied = _applied(connection)
    return [file.stem for file in _files("migrations") if file.stem not in applied]


def require_migrated(connection: Connection) -> None:
    """Raises ConfigurationError where migrations are missing."""
    if missing := pending_migrations(connection):
        raise ConfigurationError(
            f"the database lacks the migrations {', '.join(missing)}: run `matching-pipeline migrate`"
        )


def _files(folder: str) -> list[Path]:
    return sorted((ROOT / "sql" / folder).glob("*.sql"))


def _applied(connection: Connection) -> set[str]:
    if connection.execute(query("has_migrations_table")).fetchone() != (True,):
        return set()
    return {name for (name,) in connection.execute(query("applied_migrations"))}


def _apply(connection: Connection, file: Path) -> None:
    try:
        connection.execute(file.read_bytes())
    except (psycopg.errors.FeatureNotSupported, psycopg.errors.UndefinedFile) as error:
        if "vector" not in str(error):
            raise
        raise ConfigurationError(
            "DATABASE_URL: the server has no pgvector extension: install it (on Debian "
            "postgresql-NN-pgvector; Supabase has it) and migrate again"
        ) from error
    except psycopg.errors.DuplicateTable as error:
        raise ConfigurationError(
            f"{file.name}: {error.diag.message_primary}: the pipeline keeps a table of its own by that name; "
            "rename yours, then migrate again"
        ) from error
    except psycopg.Error as error:
        hint = f"\n{error.diag.message_hint}" if error.diag.message_hint else ""
        message = error.diag.message_primary or str(error)
        raise ConfigurationError(f"{file.name}: {message}{hint}") from error
