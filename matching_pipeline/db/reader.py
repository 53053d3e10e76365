"""Columns of many rows out of Postgres, of which only texts become Python objects.

A statement that is read at once is a prepared one. A stream of parts is a binary COPY, whose statement Postgres plans
each time. PostgreSQL's documentation, "COPY", Binary Format: a signature, flags and extension length; then a row as a
field count and, for each field, its length and its bytes; a trailer. pgvector sends a vector as its dimensions
(int16), an unused int16 and big-endian floats: float32s, or float16s of a halfvec.
"""

import sys
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg.pq.abc import PGresult

VECTOR, TEXT = "vector", "text"

Fields = Mapping[str, str]
"""The columns' names and formats, in their order: UUID, FLOAT and INTEGER of `arrays`, VECTOR or TEXT (an array of
bytes objects). No value is null. All vectors of a column have the same type and number of dimensions."""
ColumnsByName = dict[str, NDArray[Any]]

_HEADER_BYTES = 19
_TRAILER = b"\xff\xff"


def read_columns(
    connection: psycopg.Connection[Any], statement: bytes, parameters: Mapping[str, Any], fields: Fields
) -> ColumnsByName:
    result = connection.execute(statement, parameters, binary=True).pgresult
    assert result is not None
    return {name: _column(result, place, form) for place, (name, form) in enumerate(fields.items())}


def read_parts(
    connection: psycopg.Connection[Any],
    statement: bytes,
    parameters: Mapping[str, Any],
    fields: Fields,
    least_rows: int = sys.maxsize,
) -> Iterator[tuple[ColumnsByName, list[bytes]]]:
    """The columns of a COPY and a text, which is the last column of each row, in one part or more.

    A part has `least_rows` rows and all further ones with the same first column as the last of these. The caller uses
    the session for nothing else until the parts end.
    """
    data, texts, first_column, width = bytearray(), list[bytes](), b"", 0
    for row in _rows(connection, statement, parameters):
        if len(texts) >= least_rows and not row.startswith(first_column):
            yield _columns(data, fields), texts
            data, texts = bytearray(), []
        width = width or _layout(fields, row).itemsize
        first_column = row[: 6 + int.from_bytes(row[2:6])]
        data += row[:width]
        texts.append(row[width + 4 :])
    yield _columns(data, fields), texts


def _column(result: PGresult, place: int, form: str) -> NDArray[Any]:
    values = [result.get_value(row, place) or b"" for row in range(result.ntuples)]
    if form == TEXT:
        texts = np.empty(len(values), dtype=object)
        texts[:] = values
        return texts
    if form == VECTOR:
        numbers = np.frombuffer(b"".join(value[4:] for value in values), dtype=">f4").astype(np.float32)
        return numbers.reshape(len(values), -1 if values else 0)
    column = np.frombuffer(b"".join(values), dtype=form)
    return column.astype(column.dtype.newbyteorder("="))


def _rows(connection: psycopg.Connection[Any], statement: bytes, parameters: Mapping[str, Any]) -> Iterator[bytes]:
    with connection.cursor() as cursor, cursor.copy(statement, parameters) as copy:
        for number, message in enumerate(copy):
            row = bytes(message)[_HEADER_BYTES if number == 0 else 0 :]
            if row[:2] != _TRAILER:
                yield row


def _columns(data: bytes | bytearray, fields: Fields) -> ColumnsByName:
    rows = np.frombuffer(data, dtype=_layout(fields, data))
    return {
        name: rows[name].astype(np.float32 if form == VECTOR else rows[name].dtype.newbyteorder("="))
        for name, form in fields.items()
    }


def _layout(fields: Fields, row: bytes | bytearray) -> "np.dtype[np.void]":
    """The layout of rows such as this one."""
    layout: list[tuple[str, str] | tuple[str, str, tuple[int]]] = [("field count", "V2")]
    for name, form in fields.items():
        start = np.dtype(layout).itemsize
        if form == VECTOR:
            size, dimensions = int.from_bytes(row[start : start + 4]), int.from_bytes(row[start + 4 : start + 6])
            number = ">f4" if size == 4 + 4 * dimensions else ">f2"
            layout += [(f"head of {name}", "V8"), (name, number, (dimensions,))]
        else:
            layout += [(f"length of {name}", "V4"), (name, form)]
    return np.dtype(layout)
