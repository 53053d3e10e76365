"""Writes a change of `matches`."""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from matching_pipeline.db.arrays import Uuids, parameters_from
from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import query
from matching_pipeline.matches.kernel.columns import Ids, Mask
from matching_pipeline.matches.kernel.differences import Change
from matching_pipeline.matches.rows import MatchRows, listings_in, owned_by
from matching_pipeline.matches.rule import Rule


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


def write(
    connection: Connection, rule: Rule, model: str, change: Change[MatchRows], computed: Mapping[str, Ids]
) -> Figures:
    """Writes the change, in the caller's transaction, without pairs of which an entity or an item is gone.

    It enqueues the entities whose lists lack such a pair. It also enqueues entities that lose a pair, unless their
    lists were computed.
    """
    there = _put(connection, rule, model, change)
    for source in rule.keepers:
        lost = owned_by(listings_in(change.deletions, rule), rule, source).owner
        lacking = owned_by(listings_in(change.upserts.take(~there), rule), rule, source).owner
        again = np.union1d(lost[~np.isin(lost, computed[source])], lacking)
        if len(again):
            parameters = {"matcher": rule.matcher, "source": source, "ids": Uuids(again)}
            connection.execute(query("match_again"), parameters)
    added = int(change.new[there].sum())
    return Figures(added=added, changed=int(there.sum()) - added, removed=len(change.deletions))


def _put(connection: Connection, rule: Rule, model: str, change: Change[MatchRows]) -> Mask:
    """Which of the upserts have entities and items that exist. Locks the entities until the transaction ends."""
    there: Mask = np.ones(len(change.upserts), dtype=np.bool_)
    if len(change.upserts) or len(change.deletions):
        lost = {"lost_left": Uuids(change.deletions.left), "lost_right": Uuids(change.deletions.right)}
        pairs = {"new_ids": _new_ids(len(change.upserts)), **parameters_from(vars(change.upserts))}
        parameters = {"matcher": rule.matcher, "model": model, **lost, **pairs}
        there[[place - 1 for (place,) in connection.execute(query("put_pairs"), parameters)]] = False
    return there


def _new_ids(count: int) -> Uuids:
    """Random ids that begin with the time (UUIDs of version 7), ascending. So new rows are neighbours in the index.

    Postgres would ask its source of randomness for one at a time, which can cost a tenth of the insert.
    """
    drawn = np.frombuffer(os.urandom(16 * count), dtype=np.uint8).reshape(count, 16).copy()
    drawn[:, :6] = np.frombuffer((time.time_ns() // 1_000_000).to_bytes(6), dtype=np.uint8)
    drawn[:, 6] = drawn[:, 6] & 0x0F | 0x70
    drawn[:, 8] = drawn[:, 8] & 0x3F | 0x80
    return Uuids(np.sort(drawn.view("S16").ravel()))
