"""Brings the schema `matching_pipeline` up to date: migrations once, in order; functions and triggers always."""

from pathlib import Path

import psycopg

from matching_pipeline.db.connections import Connection
from matching_pipeline.db.files import ROOT
from matching_pipeline.db.queries import query
from matching_pipeline.errors import ConfigurationError

OLDEST_MAJOR_VERSION = 15
"""The first with views that respect their reader's rights."""


LOCK_WAIT = "2s"
"""How long a migration waits for a transaction of the app, and the app's next statements behind it."""


def migrate(connection: Connection) -> list[str]:
    """Applies what is missing, in one transaction, and returns the names of the migrations applied.

    Raises ConfigurationError if the server lacks pgvector or its version is too old; nothing is changed then.
    """
    require_version(connection.info.server_version)
    with connection.transaction():
        connection.execute(query("lock_migrations"))
        connection.execute(query("limit_lock_waits"), {"limit": LOCK_WAIT})
        if not _has_migrations_table(connection):
            connection.execute(query("create_schema"))
        _run(connection, "pgvector", query("create_vector_extension"))
        missing = pending_migrations(connection)
        for file in _files("migrations"):
            if file.stem in missing:
                _apply(connection, file)
                connection.execute(query("record_migration"), {"name": file.stem})
        for file in _files("repeatable"):
            _apply(connection, file)
    return missing


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
    """Raises ConfigurationError if migrations are missing, or pgvector, which can be dropped with its schema."""
    if missing := pending_migrations(connection):
        raise ConfigurationError(
            f"the database lacks the migrations {', '.join(missing)}: run `matching-pipeline migrate`"
        )
    if connection.execute(query("has_vector_extension")).fetchone() != (True,):
        raise ConfigurationError("the database lacks pgvector: run `matching-pipeline migrate`")


def _files(folder: str) -> list[Path]:
    return sorted((ROOT / "sql" / folder).glob("*.sql"))


def _has_migrations_table(connection: Connection) -> bool:
    return connection.execute(query("has_migrations_table")).fetchone() == (True,)


def _applied(connection: Connection) -> set[str]:
    if not _has_migrations_table(connection):
        return set()
    return {name for (name,) in connection.execute(query("applied_migrations"))}


def _apply(connection: Connection, file: Path) -> None:
    connection.execute(query("search_our_schema"))
    _run(connection, file.name, file.read_bytes())


def _run(connection: Connection, name: str, statements: bytes) -> None:
    try:
        connection.execute(statements)
    except (psycopg.errors.FeatureNotSupported, psycopg.errors.UndefinedFile) as error:
        if "vector" not in str(error):
            raise
        raise ConfigurationError(
            "DATABASE_URL: the server has no pgvector extension: install it (on Debian "
            "postgresql-NN-pgvector; Supabase has it) and migrate again"
        ) from error
    except psycopg.Error as error:
        hint = f"\n{error.diag.message_hint}" if error.diag.message_hint else ""
        message = error.diag.message_primary or str(error)
        raise ConfigurationError(f"{name}: {message}{hint}") from error
