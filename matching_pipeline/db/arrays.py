"""Columns of many values to and from Postgres, in its binary formats, without a Python object a value.

PostgreSQL's documentation, "COPY", Binary Format: a signature, flags and extension length; then a row as a field
count and, for each field, its length and its bytes; a trailer. An array is sent as its number of dimensions, whether
it has nulls, its elements' type, each dimension's size and first index; then each element's length and bytes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg.abc import Buffer
from psycopg.adapt import Dumper
from psycopg.pq import Format

_HEADER_BYTES = 19
_TRAILER_BYTES = 2

UUID, FLOAT, INTEGER = "S16", ">f8", ">i4"
"""uuid, double precision and integer, as they travel."""


@dataclass(frozen=True)
class Uuids:
    """A parameter of type uuid[], made of 16 bytes each."""

    values: NDArray[np.bytes_]


@dataclass(frozen=True)
class Floats:
    """A parameter of type double precision[]."""

    values: NDArray[np.float64]


@dataclass(frozen=True)
class Integers:
    """A parameter of type integer[]."""

    values: NDArray[np.integer[Any]]


def register_arrays(connection: psycopg.Connection[Any]) -> None:
    adapters = connection.adapters
    # the later is preferred; the literals of a COPY, which takes no parameters, are written by the former
    adapters.register_dumper(Uuids, _UuidsLiteral)
    adapters.register_dumper(Uuids, _UuidsDumper)
    adapters.register_dumper(Floats, _FloatsDumper)
    adapters.register_dumper(Integers, _IntegersDumper)


def copy_out(
    connection: psycopg.Connection[Any], statement: bytes, parameters: Mapping[str, Any], fields: Mapping[str, str]
) -> NDArray[np.void]:
    """The rows of a binary COPY whose columns are these, by name and format, none of them null."""
    layout: list[tuple[str, str]] = [("count", "V2")]
    for name, form in fields.items():
        layout += [(f"length of {name}", "V4"), (name, form)]
    with connection.cursor() as cursor, cursor.copy(statement, parameters) as copy:
        data = b"".join(copy)
    return np.frombuffer(data[_HEADER_BYTES:-_TRAILER_BYTES], dtype=np.dtype(layout))


class _ArrayDumper(Dumper):
    format = Format.BINARY
    element: str
    element_oid: int

    def dump(self, parameter: Uuids | Floats | Integers) -> Buffer:
        elements = np.empty(len(parameter.values), dtype=[("length", ">i4"), ("value", self.element)])
        elements["value"] = parameter.values
        elements["length"] = elements.dtype["value"].itemsize
        dimensions = [len(elements), 1] if len(elements) else []
        head = np.array([len(dimensions) // 2, 0, self.element_oid, *dimensions], dtype=">i4")
        return head.tobytes() + elements.tobytes()


class _UuidsDumper(_ArrayDumper):
    element, element_oid = UUID, psycopg.adapters.types["uuid"].oid
    oid = psycopg.adapters.types["uuid"].array_oid


class _UuidsLiteral(Dumper):
    oid = psycopg.adapters.types["uuid"].array_oid

    def dump(self, parameter: Uuids) -> Buffer:
        digits = parameter.values.tobytes().hex()
        each = (digits[begin : begin + 32] for begin in range(0, len(digits), 32))
        return f"{{{','.join(each)}}}".encode()


class _FloatsDumper(_ArrayDumper):
    element, element_oid = FLOAT, psycopg.adapters.types["float8"].oid
    oid = psycopg.adapters.types["float8"].array_oid


class _IntegersDumper(_ArrayDumper):
    element, element_oid = INTEGER, psycopg.adapters.types["int4"].oid
    oid = psycopg.adapters.types["int4"].array_oid
