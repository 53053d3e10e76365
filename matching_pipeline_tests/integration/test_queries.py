"""Every named query fits the migrated schema."""

import pytest
from psycopg._queries import PostgresQuery
from psycopg.adapt import Transformer

from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import all_queries


@pytest.mark.parametrize("name", sorted(all_queries()))
def test_query_prepares_against_the_migrated_schema(connection: Connection, name: str) -> None:
    statement = all_queries()[name]
    if statement.startswith((b"copy (", b"listen")):
        statement = (
            statement.removeprefix(b"copy (")
            .removesuffix(b") to stdout (format binary)")
            .replace(b"listen job_queue", b"select 1")
        )
    query = PostgresQuery(Transformer(connection))
    names = {key.decode() for key in __import__("re").findall(rb"%\((\w+)\)s", statement)}
    query.convert(statement, dict.fromkeys(names))
    result = connection.pgconn.prepare(b"", query.query)
    assert not result.error_message.decode()
