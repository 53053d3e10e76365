"""Arrays as parameters of statements, in Postgres' binary format, without a Python object a value.

An array is sent as its number of dimensions, whether it has nulls, its elements' type, each dimension's size and
first index; then each element's length and bytes.
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

UUID, FLOAT, INTEGER = "S16", ">f8", ">i4"
"""uuid, double precision and integer, as they travel"""


@dataclass(frozen=True)
class Parameter:
    values: NDArray[Any]


class Uuids(Parameter):
    """A parameter of type uuid[], made of 16 bytes each."""


class Doubles(Parameter):
    """A parameter of type double precision[]."""


class Integers(Parameter):
    """A parameter of type integer[]."""


_BY_DTYPE: Mapping[str, type[Parameter]] = {"S": Uuids, "f": Doubles, "i": Integers}


def parameters_from(columns: Mapping[str, NDArray[Any]]) -> dict[str, Parameter]:
    """One parameter for each column, of the type that fits its values."""
    return {name: _BY_DTYPE[column.dtype.kind](column) for name, column in columns.items()}


def register_arrays(connection: psycopg.Connection[Any]) -> None:
    adapters = connection.adapters
    adapters.register_dumper(Uuids, _UuidsDumper)
    adapters.register_dumper(Doubles, _DoublesDumper)
    adapters.register_dumper(Integers, _IntegersDumper)


class _ArrayDumper(Dumper):
    format = Format.BINARY
    element: str
    element_oid: int

    def dump(self, parameter: Parameter) -> Buffer:
        elements = np.empty(len(parameter.values), dtype=[("length", ">i4"), ("value", self.element)])
        elements["value"] = parameter.values
        elements["length"] = elements.dtype["value"].itemsize
        dimensions = [len(elements), 1] if len(elements) else []
        head = np.array([len(dimensions) // 2, 0, self.element_oid, *dimensions], dtype=">i4")
        return head.tobytes() + elements.tobytes()


class _UuidsDumper(_ArrayDumper):
    element, element_oid = UUID, psycopg.adapters.types["uuid"].oid
    oid = psycopg.adapters.types["uuid"].array_oid


class _DoublesDumper(_ArrayDumper):
    element, element_oid = FLOAT, psycopg.adapters.types["float8"].oid
    oid = psycopg.adapters.types["float8"].array_oid


class _IntegersDumper(_ArrayDumper):
    element, element_oid = INTEGER, psycopg.adapters.types["int4"].oid
    oid = psycopg.adapters.types["int4"].array_oid
