"""Every named query fits the migrated schema."""

import re
from collections.abc import Callable, Iterator

import pytest
from psycopg._queries import PostgresQuery
from psycopg.adapt import Transformer

from matching_pipeline.db.connections import Connection, connect
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


@pytest.fixture(scope="module")
def migrated(new_database: Callable[..., str], migrated_template: str) -> Iterator[Connection]:
    """One for all, as to prepare a statement changes nothing."""
    with connect(new_database(migrated_template)) as connection:
        yield connection


@pytest.mark.parametrize("name", sorted(all_queries().keys() - UTILITIES))
def test_query_prepares_against_the_migrated_schema(migrated: Connection, name: str) -> None:
    statement = COPY.sub(rb"\1", all_queries()[name])
    names = {key.decode() for key in re.findall(rb"%\((\w+)\)[sb]", statement)}
    query = PostgresQuery(Transformer(migrated))
    query.convert(statement, dict.fromkeys(names))
    result = migrated.pgconn.prepare(b"", query.query)
    assert not result.error_message.decode()


@pytest.mark.parametrize("name", sorted(UTILITIES))
def test_utility_statement_runs(connection: Connection, name: str) -> None:
    connection.execute(all_queries()[name])
