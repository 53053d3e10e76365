"""A rebuild of one matcher's lists. It has a number, and shards that may run anywhere, in any order and at once.

A shard shares the lists with the other shards of its rebuild, and keeps out everyone who takes the lists alone
(`locks.py`). A change that a shard does not see has a job in the queue, and no worker can complete that job until the
shard has written. A worker may complete it between two shards: it merges the entity into lists that are each right,
whether their shard has written or not.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple

from psycopg.types.json import Jsonb

from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import named_rows, query
from matching_pipeline.db.transactions import GAVE_WAY
from matching_pipeline.errors import RebuildSuperseded
from matching_pipeline.matches.locks import ListsLock
from matching_pipeline.matches.writing import Figures


@dataclass(frozen=True)
class Part:
    """The left entities of all blocks with the given values of `same`: all, or those with ids from `first` to before
    `before`."""

    same: Mapping[str, str] | None
    """None means the entities that have pairs and can match nothing now: their pairs are deleted"""
    first: str | None = None
    before: str | None = None


@dataclass(frozen=True)
class Shard:
    """Some parts of a rebuild."""

    rebuild: int
    place: int
    """from 1 within the rebuild"""
    matcher: str
    entities: int
    """the number of its entities when the rebuild began"""
    parts: Sequence[Part]
    figures: dict[str, int] | None = None
    seconds: float | None = None


OnProgress = Callable[[int, int], None]
"""Receives (done, total)."""

OnPart = Callable[[int], None]
"""Receives the number of lists of a shard that are done."""

Plan = Callable[[Connection, int], None]
"""Divides the rebuild of this number into shards."""

Publish = Callable[[Connection, Shard, OnPart], Figures]
"""Computes a shard's lists from committed rows, and writes the difference in short transactions."""


def begin(connection: Connection, matcher: str, plan: Plan, begun_by: str | None = None) -> list[Shard]:
    """Waits until no other session writes the matcher's lists, then plans a rebuild. It supersedes the one before."""
    with ListsLock(connection, matcher).alone(), connection.transaction():
        row = connection.execute(query("begin_rebuild"), {"matcher": matcher, "begun_by": begun_by}).fetchone()
        assert row is not None
        plan(connection, row[0])
        return _shards(connection, row[0])


def shard_at(connection: Connection, rebuild: int, place: int) -> Shard:
    """Raises RebuildSuperseded if the rebuild's rows were deleted because it is old."""
    for shard in _shards(connection, rebuild, place):
        return shard
    raise RebuildSuperseded(f"rebuild {rebuild} began so long ago that its shards were forgotten: begin another")


def run(connection: Connection, shard: Shard, publish: Publish, on_part: OnPart = lambda done: None) -> Figures:
    """Raises RebuildSuperseded if a newer rebuild began, and an error of GAVE_WAY if the app holds rows locked."""
    with ListsLock(connection, shard.matcher).shared():
        newest = connection.execute(query("newest_rebuild"), {"matcher": shard.matcher}).fetchone()
        if newest != (shard.rebuild,):
            raise RebuildSuperseded(
                f"rebuild {shard.rebuild} of the matcher {shard.matcher} was superseded by "
                f"{f'rebuild {newest[0]}, which computes this shard too' if newest else 'a rebuild that is deleted'}"
            )
        began = time.monotonic()
        figures = publish(connection, shard, on_part)
        parameters = {"figures": Jsonb(vars(figures)), "seconds": time.monotonic() - began}
        connection.execute(query("finish_shard"), {"rebuild": shard.rebuild, "place": shard.place, **parameters})
    return figures


def run_all(connection: Connection, matcher: str, plan: Plan, publish: Publish, on_progress: OnProgress) -> Figures:
    """Rebuilds in this process, shard by shard. Shards whose rows the app holds locked are done last.

    Raises an error of GAVE_WAY if their rows are still locked then.
    """
    shards = begin(connection, matcher, plan)
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
    """The work of a matcher's rebuild."""

    shards: int
    seconds: float
    figures: Figures


def done_by(connection: Connection, begun_by: str) -> dict[str, Done]:
    """The work of the rebuilds that one run began, by matcher."""
    done = {}
    for matcher, shards, seconds, each in connection.execute(query("rebuild_figures"), {"begun_by": begun_by}):
        total = Figures()
        for figures in each:
            total += Figures(**figures)
        done[matcher] = Done(shards, seconds, total)
    return done


def forget(connection: Connection, keep: timedelta) -> int:
    return connection.execute(query("forget_rebuilds"), {"keep": keep}).rowcount


def _shards(connection: Connection, rebuild: int, place: int | None = None) -> list[Shard]:
    rows = named_rows(connection, "shards", rebuild=rebuild, place=place)
    return [Shard(**{**row, "parts": [Part(**part) for part in row["parts"]]}) for row in rows]
