"""A rebuild of one kind's lists: numbered, and divided into shards that may run anywhere, in any order and at once.

A shard shares the lists with the other shards of its rebuild and excludes every other writer of them. So what it did
not see when it loaded is still owed by the queue when it has published, and a drain between two shards is merged
into lists that each are right.
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
from matching_pipeline.matches.match_table import Figures, holding_lists, sharing_lists

SIZES = {"project": 10_000, "face": 20_000}
"""Projects, or faces of whole schools, in a shard. Each shard of projects loads the images of all products."""


@dataclass(frozen=True)
class Shard:
    """A part of a kind's left-hand side: a range of project ids, or some schools."""

    rebuild: int
    place: int
    """from 1 within the rebuild"""
    kind: str
    entities: int
    """how many it had when it was planned"""
    first_project: UUID | None = None
    before_project: UUID | None = None
    schools: Sequence[str | None] | None = None
    """with a None for the faces that are in no school, or cannot match for another reason"""
    figures: dict[str, int] | None = None
    seconds: float | None = None


OnProgress = Callable[[int, int], None]
"""What is told (done, total)."""

OnPart = Callable[[int], None]
"""What is told how many lists of a shard are done."""

Publish = Callable[[Connection, Shard, OnPart], Figures]
"""Computes a shard's lists from what is committed, and writes the difference in short transactions."""


def begin(connection: Connection, kind: str, begun_by: str | None = None) -> list[Shard]:
    """Plans a rebuild, as soon as nobody is writing the kind's lists; ends the one before, wherever it has got to."""
    with holding_lists(connection, kind), connection.transaction():
        row = connection.execute(query("begin_rebuild"), {"kind": kind, "begun_by": begun_by}).fetchone()
        assert row is not None
        connection.execute(query(f"plan_{kind}_shards"), {"rebuild": row[0], "size": SIZES[kind]})
        return _shards(connection, row[0])


def shard_at(connection: Connection, rebuild: int, place: int) -> Shard:
    """Raises Overtaken where it is so old that it was forgotten."""
    for shard in _shards(connection, rebuild, place):
        return shard
    raise RebuildSuperseded(f"rebuild {rebuild} was begun so long ago that its shards are forgotten: begin another")


def run(connection: Connection, shard: Shard, publish: Publish, on_part: OnPart = lambda done: None) -> Figures:
    """Raises Overtaken where nothing may be written any more, and one of GAVE_WAY where the app holds locks on it."""
    with sharing_lists(connection, shard.kind):
        newest = connection.execute(query("newest_rebuild"), {"kind": shard.kind}).fetchone()
        if newest != (shard.rebuild,):
            raise RebuildSuperseded(
                f"rebuild {shard.rebuild} of {shard.kind} matches was overtaken by rebuild {newest and newest[0]}, "
                "which computes this shard too"
            )
        began = time.monotonic()
        figures = publish(connection, shard, on_part)
        told = {"figures": Jsonb(vars(figures)), "seconds": time.monotonic() - began}
        connection.execute(query("finish_shard"), {"rebuild": shard.rebuild, "place": shard.place, **told})
    return figures


def run_all(connection: Connection, kind: str, publish: Publish, on_progress: OnProgress) -> Figures:
    """A rebuild in this process, shard by shard. One whose rows the app holds locked is left for last; raises one of
    GAVE_WAY where they are locked still, with all others done."""
    shards = begin(connection, kind)
    figures, done, total = Figures(), 0, sum(shard.entities for shard in shards)
    locked = []
    for shard in shards:

        def tell(part: int, before: int = done) -> None:
            on_progress(min(before + part, total), total)

        try:
            figures += run(connection, shard, publish, tell)
        except GAVE_WAY:
            locked.append(shard)
        done += shard.entities
    for shard in locked:
        figures += run(connection, shard, publish)
    on_progress(total, total)
    return figures


class Done(NamedTuple):
    """What the rebuilds that one run began have done."""

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
