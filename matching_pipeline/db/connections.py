"""Connections to the app's database."""

import re
from typing import Any

import psycopg
from pgvector.psycopg.vector import register_vector_info
from psycopg.rows import TupleRow
from psycopg.types import TypeInfo

from matching_pipeline.database_url import libpq_url
from matching_pipeline.db.arrays import register_arrays
from matching_pipeline.db.queries import query
from matching_pipeline.errors import ConfigurationError

AWAY = frozenset({"57P01", "57P02", "57P03", "57P05", "53300"})
"""SQLSTATE of a server that stops, crashed, starts or has too many connections, or that ended an idle session."""
_UNKNOWN_PARAMETER = re.compile(r'invalid URI query parameter: "(?P<name>\w+)"')

Connection = psycopg.Connection[TupleRow]


def connect(database_url: str, **options: Any) -> Connection:
    """An autocommitting session that knows the vector type if the database has it.

    It does not depend on the settings of the database or of the role. Raises ConfigurationError if the URL is
    malformed, refused at once or leads to a standby; a server that does not answer raises psycopg.OperationalError.
    """
    parameters = _parse(database_url)
    defaults: dict[str, Any] = {
        "application_name": "matching_pipeline",
        "connect_timeout": 10,
        # a waiting worker must notice within a minute that the server is gone
        **{"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3},
        "tcp_user_timeout": 60_000,
    }
    try:
        connection = psycopg.connect(
            **{**defaults, **parameters, "client_encoding": "utf8", **options}, autocommit=True
        )
    except psycopg.OperationalError as error:
        if _is_refused(error):
            raise ConfigurationError(f"DATABASE_URL: the server refuses it: {error}") from None
        raise
    ((is_standby, vector, vectors),) = connection.execute(query("set_up_session")).fetchall()
    if is_standby:
        connection.close()
        raise ConfigurationError(
            "DATABASE_URL: the server is a standby, which takes no writes: name the primary server"
        )
    register_arrays(connection)
    if vector:
        # pgvector's own `register_vector` asks the database 15 times
        register_vector_info(connection, TypeInfo("vector", vector, vectors))
    return connection


def is_away(error: BaseException) -> bool:
    """Whether the server cannot be reached now, or takes no session now.

    A statement that is repeated has other operational errors again, such as a timeout.
    """
    if not isinstance(error, psycopg.OperationalError):
        return False
    return error.sqlstate is None or error.sqlstate[:2] == "08" or error.sqlstate in AWAY


def _parse(database_url: str) -> dict[str, Any]:
    """The connection's parameters. No error quotes the URL, because a password may be in it."""
    try:
        parameters = psycopg.conninfo.conninfo_to_dict(libpq_url(database_url))
    except psycopg.ProgrammingError as error:
        if unknown := _UNKNOWN_PARAMETER.search(str(error)):
            raise ConfigurationError(
                f"DATABASE_URL: its parameter {unknown['name']} is not a parameter of Postgres: remove it"
            ) from None
        raise ConfigurationError(
            "DATABASE_URL is not a Postgres connection string, such as postgresql://user:password@host:5432/database"
        ) from None
    ports = str(parameters.get("port", "")).split(",")
    if "@" in str(parameters.get("host", "")) or not all(port.isdigit() for port in ports if port):
        raise ConfigurationError(
            "DATABASE_URL: its host or port is malformed; in user and password, characters such as @ : / are "
            "written percent-encoded"
        )
    return parameters


def _is_refused(error: psycopg.OperationalError) -> bool:
    """Whether waiting cannot help, because the password, the role or the database is wrong."""
    refusals = (
        "authentication failed",
        "no password supplied",
        "permission denied for database",
        "does not exist",
        "no pg_hba.conf entry",
    )
    return any(refusal in str(error) for refusal in refusals)
