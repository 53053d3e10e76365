"""Dagster's own tables, beside the app's, in a schema of their own: its names (`jobs`, `runs`) are common ones."""

import warnings

from dagster_postgres import DagsterPostgresStorage
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import URL

SCHEMA = "dagster"
_SETTINGS = {
    "default_transaction_read_only": "off",
    "default_transaction_isolation": r"read\ committed",
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_session_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "standard_conforming_strings": "on",
    "client_encoding": "utf8",
    "search_path": SCHEMA,
}
"""Settings that Dagster relies on, whatever the database and the role set."""


def instance_url(database_url: str) -> str:
    """The database's URL as dagster-postgres wants it: SQLAlchemy's form, psycopg 2's driver, our schema.

    A plain postgresql:// URL would get psycopg 3, with which dagster-postgres 0.29 fails.
    """
    known = {key: str(value) for key, value in conninfo_to_dict(database_url).items()}
    options = " ".join(
        [known.pop("options", ""), *(f"-c{name}={value}" for name, value in _SETTINGS.items())]
    ).strip()
    host = known.pop("host", "")
    url = URL.create(
        "postgresql+psycopg2",
        username=known.pop("user", None),
        password=known.pop("password", None),
        # a folder is a Unix socket, which SQLAlchemy takes as an option
        host=None if host.startswith("/") else host or None,
        port=int(known.pop("port")) if "port" in known and not host.startswith("/") else None,
        database=known.pop("dbname", None),
        query={**({"host": host} if host.startswith("/") else {}), **known, "options": options},
    )
    return url.render_as_string(hide_password=False)


def create_instance_tables(url: str) -> None:
    """Creates or migrates Dagster's tables, by a URL in SQLAlchemy's form; their schema must exist."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        storage = DagsterPostgresStorage(url, should_autocreate_tables=True)
    storage.event_log_storage.upgrade()
    for part in (storage.run_storage, storage.event_log_storage, storage.schedule_storage):
        part.dispose()
