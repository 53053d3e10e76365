"""A rebuild of one kind's lists. It has a number, and shards that may run anywhere, in any order and at once.

A shard shares the lists with the other shards of its rebuild and keeps out every other writer (`locks.py`). So the
jobs for all changes that it did not see wait in the queue until it has written. A worker that completes some of them
between two shards merges them into lists that are each right.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple
from uuid import UUID

from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import query
from matching_pipeline.db.transactions import GAVE_WAY
from matching_pipeline.errors import RebuildSuperseded
from matching_pipeline.matches.locks import ListsLock
from matching_pipeline.matches.match_table import Figures

SIZES = {"project": 10_000, "face": 20_000}
"""Projects, or faces of whole schools, in a shard. Each shard of projects loads the images of all products."""
PLANS = {"project": "plan_project_shards", "face": "plan_face_shards"}
"""The query that divides a rebuild of the kind into shards."""


@dataclass(frozen=True)
class Shard:
    """A range of project ids, or some schools."""

    rebuild: int
    place: int
    """from 1 within the rebuild"""
    kind: str
    entities: int
    """how many it had at the begin of the rebuild"""
    first_project: UUID | None = None
    before_project: UUID | None = None
    schools: Sequence[str | None] | None = None
    """None among them means the faces that cannot match"""
    figures: dict[str, int] | None = None
    seconds: float | None = None


OnProgress = Callable[[int, int], None]
"""Receives (done, total)."""

OnPart = Callable[[int], None]
"""Receives the number of lists of a shard that are done."""

Publish = Callable[[Connection, Shard, OnPart], Figures]
"""Computes a shard's lists from committed rows, and writes the difference in short transactions."""


def begin(connection: Connection, kind: str, begun_by: str | None = None) -> list[Shard]:
    """Plans a rebuild when no other session writes the kind's lists. It supersedes the rebuild before it."""
    with ListsLock(connection, kind).alone(), connection.transaction():
        row = connection.execute(query("begin_rebuild"), {"kind": kind, "begun_by": begun_by}).fetchone()
        assert row is not None
        connection.execute(query(PLANS[kind]), {"rebuild": row[0], "size": SIZES[kind]})
        return _shards(connection, row[0])


def shard_at(connection: Connection, rebuild: int, place: int) -> Shard:
    """Raises RebuildSuperseded where the rebuild is so old that it was deleted."""
    for shard in _shards(connection, rebuild, place):
        return shard
    raise RebuildSuperseded(f"rebuild {rebuild} began so long ago that its shards were forgotten: begin another")


def run(connection: Connection, shard: Shard, publish: Publish, on_part: OnPart = lambda done: None) -> Figures:
    """Raises RebuildSuperseded where a newer rebuild began, and one of GAVE_WAY where the app has locked rows."""
    with ListsLock(connection, shard.kind).shared():
        newest = connection.execute(query("newest_rebuild"), {"kind": shard.kind}).fetchone()
        if newest != (shard.rebuild,):
            raise RebuildSuperseded(
                f"rebuild {shard.rebuild} of {shard.kind} matches was overtaken by rebuild {newest and newest[0]}, "
                "which computes this shard too"
            )
        began = time.monotonic()
        figures = publish(connection, shard, on_part)
        parameters = {"figures": Jsonb(vars(figures)), "seconds": time.monotonic() - began}
        connection.execute(query("finish_shard"), {"rebuild": shard.rebuild, "place": shard.place, **parameters})
    return figures


def run_all(connection: Connection, kind: str, publish: Publish, on_progress: OnProgress) -> Figures:
    """Rebuilds in this process, shard by shard, and leaves shards whose rows the app has locked for last.

    Raises one of GAVE_WAY where they still are locked, when all others are done.
    """
    shards = begin(connection, kind)
    figures, done, total = Figures(), 0, sum(shard.entities for shard in shards)
    locked = []
    for shard in shards:

        def on_part(part: int, before: int = done) -> None:
            on_progress(min(before + part, total), total)

        try:
            figures += run(connection, shard, publish, on_part)
        except GAVE_WAY:
            locked.append(shard)
        done += shard.entities
    for shard in locked:
        figures += run(connection, shard, publish)
    on_progress(total, total)
    return figures


class Done(NamedTuple):
    """The work of the rebuilds that one run began."""

    shards: int
    seconds: float
    figures: Figures


def done_by(connection: Connection, begun_by: str) -> Done:
    row = connection.execute(query("rebuild_figures"), {"begun_by": begun_by}).fetchone()
    assert row is not None
    shards, seconds, each = row
    total = Figures()
    for figures in each:
        total += Figures(**figures)
    return Done(shards, seconds, total)


def forget(connection: Connection, keep: timedelta) -> int:
    return connection.execute(query("forget_rebuilds"), {"keep": keep}).rowcount


def _shards(connection: Connection, rebuild: int, place: int | None = None) -> list[Shard]:
    with connection.cursor(row_factory=class_row(Shard)) as cursor:
        return cursor.execute(query("shards"), {"rebuild": rebuild, "place": place}).fetchall()
