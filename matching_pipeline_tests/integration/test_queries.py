"""Every named query fits the migrated schema."""

import re

import pytest
from psycopg._queries import PostgresQuery
from psycopg.adapt import Transformer

from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import all_queries

COPY = re.compile(rb"copy \((.*)\) to stdout \(format binary\)", re.DOTALL)
UTILITIES = {
    "create_vector_extension",
    "listen",
    "prepare_commit",
    "create_dagster_schema",
    "create_schema",
}
"""Statements that Postgres does not analyse before it runs them."""


@pytest.mark.parametrize("name", sorted(all_queries().keys() - UTILITIES))
def test_query_prepares_against_the_migrated_schema(connection: Connection, name: str) -> None:
    statement = COPY.sub(rb"\1", all_queries()[name])
    names = {key.decode() for key in re.findall(rb"%\((\w+)\)[sb]", statement)}
    query = PostgresQuery(Transformer(connection))
    query.convert(statement, dict.fromkeys(names))
    result = connection.pgconn.prepare(b"", query.query)
    assert not result.error_message.decode()


@pytest.mark.parametrize("name", sorted(UTILITIES))
def test_utility_statement_runs(connection: Connection, name: str) -> None:
    connection.execute(all_queries()[name])
