"""The parts that all matchers share: the policy of a list, the writing of a change, its figures."""

import os
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from matching_pipeline.db.arrays import Uuids, parameters_from
from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import query
from matching_pipeline.matches.kernel.columns import Ids, as_ids
from matching_pipeline.matches.kernel.differences import Change
from matching_pipeline.matches.kernel.policy import Policy


@dataclass
class Figures:
    """How many rows of `matches` were written."""

    lists: int = 0
    """lists that were computed"""
    added: int = 0
    changed: int = 0
    removed: int = 0
    unchanged: int = 0

    def __iadd__(self, other: "Figures") -> "Figures":
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)
        return self

    def __str__(self) -> str:
        return ", ".join(f"{count} {name}" for name, count in vars(self).items())


@dataclass(frozen=True)
class Sides:
    """A matcher's name and its two sources."""

    matcher: str
    left: str
    right: str


def match_policy(connection: Connection, matcher: str) -> Policy:
    row = connection.execute(query("match_policy"), {"matcher": matcher}).fetchone()
    assert row is not None
    return Policy(*row)


def put(connection: Connection, sides: Sides, change: Change[Any], *, publish: bytes, model: str) -> Figures:
    """Writes the change by this statement, whose parameters are the rows' columns."""
    parameters: dict[str, Any] = {"matcher": sides.matcher, "left_source": sides.left, "right_source": sides.right}
    if len(change.deletions):
        connection.execute(query("begin_publishing"))
        connection.execute(query("delete_pairs"), {**parameters_from(vars(change.deletions)), **parameters})
    if len(change.upserts):
        columns = parameters_from(vars(change.upserts))
        ids = new_ids(len(change.upserts))
        connection.execute(publish, {**columns, **parameters, "new_ids": ids, "model": model})
    added = int(change.new.sum())
    return Figures(added=added, changed=len(change.upserts) - added, removed=len(change.deletions))


def missing_entities(connection: Connection, source: str, entities: Ids) -> Ids:
    """Those of the ids that are no entities of the source now. Locks the others until the transaction ends."""
    if not len(entities):
        return entities
    rows = connection.execute(query("hold_entities"), {"source": source, "ids": Uuids(np.unique(entities))})
    return as_ids(sorted(id for (id,) in rows))


def missing_items(connection: Connection, source: str, items: Ids) -> Ids:
    """The caller has locked their entities."""
    if not len(items):
        return items
    rows = connection.execute(query("missing_items"), {"source": source, "ids": Uuids(np.unique(items))})
    return as_ids(sorted(id for (id,) in rows))


def new_ids(count: int) -> Uuids:
    """Random ids that begin with the time (UUIDs of version 7), ascending. So new rows are neighbours in the index.

    Postgres would ask its source of randomness for one at a time, which can cost a tenth of the insert.
    """
    drawn = np.frombuffer(os.urandom(16 * count), dtype=np.uint8).reshape(count, 16).copy()
    drawn[:, :6] = np.frombuffer((time.time_ns() // 1_000_000).to_bytes(6), dtype=np.uint8)
    drawn[:, 6] = drawn[:, 6] & 0x0F | 0x70
    drawn[:, 8] = drawn[:, 8] & 0x3F | 0x80
    return Uuids(np.sort(drawn.view("S16").ravel()))
