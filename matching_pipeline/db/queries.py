"""The named statements of `sql/queries`: each file has a subject, and a line `-- name:` begins a statement."""

import re
from functools import cache
from typing import Any

import psycopg
from psycopg.rows import dict_row

from matching_pipeline.db.files import ROOT

_NAME = re.compile(rb"^-- name: (\w+)\n", re.MULTILINE)


@cache
def all_queries() -> dict[str, bytes]:
    """Every statement by its name; names are unique across files.

    Statements are bytes because psycopg takes only literals as text.
    """
    queries: dict[str, bytes] = {}
    for file in sorted((ROOT / "sql" / "queries").glob("*.sql")):
        _, *parts = _NAME.split(file.read_bytes())
        for name, statement in zip(parts[::2], parts[1::2], strict=True):
            if name.decode() in queries:
                raise ValueError(f"{file}: a second query is named {name.decode()}")
            queries[name.decode()] = statement.strip()
    return queries


def query(name: str) -> bytes:
    return all_queries()[name]


def named_rows(connection: psycopg.Connection[Any], name: str, **parameters: Any) -> list[dict[str, Any]]:
    """What the query finds, each row by its columns' names."""
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(query(name), parameters).fetchall()
