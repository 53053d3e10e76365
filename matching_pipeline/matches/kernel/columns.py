"""Arrays of one length as columns of a table; ids as 16 bytes each."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self, TypeVar
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.bytes_]
"""UUIDs as 16 bytes each ("S16"). They sort and compare as the UUIDs do."""
Rows = NDArray[np.intp]
Mask = NDArray[np.bool_]
Vectors = NDArray[np.float32]
Numbers = NDArray[np.float64]
Ranks = NDArray[np.integer[Any]]


def as_ids(uuids: Iterable[UUID]) -> Ids:
    return np.frombuffer(b"".join(uuid.bytes for uuid in uuids), dtype="S16")


def as_uuids(ids: Ids) -> list[UUID]:
    # numpy drops the zeros at an id's end when it returns single elements
    raw = ids.tobytes()
    return [UUID(bytes=raw[begin : begin + 16]) for begin in range(0, len(raw), 16)]


@dataclass(frozen=True)
class Columns:
    """A table: every field of a subclass is an array, and all have one length."""

    def __len__(self) -> int:
        return len(next(iter(vars(self).values())))

    def take(self, which: Rows | Mask | slice) -> Self:
        return type(self)(*(column[which] for column in vars(self).values()))


AnyColumns = TypeVar("AnyColumns", bound=Columns)


def concatenate(parts: Sequence[AnyColumns]) -> AnyColumns:
    """Needs at least one part."""
    columns = zip(*(vars(part).values() for part in parts), strict=True)
    return type(parts[0])(*(np.concatenate(each) for each in columns))


def starts_of(groups: NDArray[Any]) -> Rows:
    """The positions in a sorted array at which another value begins."""
    first = np.ones(len(groups), dtype=np.bool_)
    first[1:] = groups[1:] != groups[:-1]
    return np.flatnonzero(first)


def places(groups: NDArray[Any]) -> Rows:
    """For each element of a sorted array, the number of equal elements before it."""
    starts = starts_of(groups)
    return np.arange(len(groups)) - np.repeat(starts, np.diff(np.append(starts, len(groups))))
