"""All faults of the mirror and of the derived tables, exactly and as of one instant, and their repair.

Rows may be
- missing: the app's rows or the mirror ask for them, and no unfinished or failed job would make them (in `matches`,
  in any case);
- stale: they belong to an earlier state, or have in `matches` a wrong rank, evidence or similarity;
- orphaned: the app's rows are gone, or in `matches` the pair does not match;
- of mixed models: their model is not the active one or, outside of `matches`, neither the active one nor the shadow.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple, TypeVar
from uuid import UUID

import numpy as np

from matching_pipeline.db.arrays import Uuids
from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import named_rows, query
from matching_pipeline.db.transactions import give_way, snapshot
from matching_pipeline.matches import pair_rows
from matching_pipeline.matches.image_sets import PART_IMAGES
from matching_pipeline.matches.kernel.columns import Ids, as_uuids, concatenate
from matching_pipeline.matches.kernel.differences import Change, difference
from matching_pipeline.matches.left_rows import LeftRows
from matching_pipeline.matches.locks import ListsLock
from matching_pipeline.matches.matchers import Implementation, implementation
from matching_pipeline.matches.pair_rows import MutualRows
from matching_pipeline.matches.picture_matcher import SHARD_ENTITIES, PictureMatcher
from matching_pipeline.matches.vector_matcher import VectorMatcher
from matching_pipeline.sources.comparison import unexplained_differences
from matching_pipeline.sources.declarations import Declarations
from matching_pipeline.sources.enqueue import enqueue_missing, enqueue_resync

SHOWN = 5
"""Rows of each fault that are named."""

MatchRows = TypeVar("MatchRows", LeftRows, MutualRows)
What = Literal["missing", "stale", "orphaned", "mixed-model"]

LEFT_COLUMNS = ("left", "right", "rank", "similarity")
MUTUAL_COLUMNS = ("left", "right", "left rank", "right rank", "similarity")
EMBEDDING_FAULTS: Sequence[tuple[What, str, Sequence[str]]] = (
    ("missing", "missing_embeddings", ("source", "key", "queue")),
    ("stale", "stale_embeddings", ("source", "key", "queue")),
    ("mixed-model", "mixed_model_embeddings", ("source", "key", "model")),
)
"""Fault, the query that finds it, and the query's columns."""


@dataclass(frozen=True)
class Fault:
    table: str
    what: What
    rows: int
    columns: Sequence[str]
    first: Sequence[Sequence[Any]]
    """The first rows as they should be; of orphaned and mixed-model rows, as they are; of the mirror only keys."""


class Report(NamedTuple):
    faults: list[Fault]
    waiting: dict[str, int]
    """By queue, the unfinished jobs at that instant. They may yet repair what differs in `matches`."""


def audit(connection: Connection, declarations: Declarations, part_images: int = PART_IMAGES) -> Report:
    """Writes nothing."""
    with snapshot(connection):
        found: list[Fault] = []
        for matcher in declarations.matchers:
            found += _matcher_faults(connection, implementation(matcher, part_images))
        for source in declarations.sources:
            # others have no mirror
            if declarations.queues_of(source):
                found += _mirror_faults(connection, source.name)
        for queue in _embedding_queues(declarations):
            for what, name, columns in EMBEDDING_FAULTS:
                found.append(_counted(connection, queue, what, columns, name, queue=queue))
        waiting = connection.execute(query("unfinished_jobs")).fetchall()
    return Report([fault for fault in found if fault.rows], dict(waiting))


def repair(
    connection: Connection, declarations: Declarations, report: Report, part_images: int = PART_IMAGES
) -> Iterator[str]:
    """Repairs the faults by the pipeline's usual means, and yields what it did."""
    found = {(fault.table, fault.what) for fault in report.faults}
    for source in declarations.sources:
        if any(table == _mirror(source.name) for table, _ in found):
            enqueue_resync(connection, source.name)
            yield f"the table of the source {source.name} is compared with the mirror by the next worker"
    for queue in _embedding_queues(declarations):
        if {(queue, "missing"), (queue, "stale")} & found:
            yield f"{enqueue_missing(connection, queue)} jobs of {queue} are enqueued"
        if (queue, "mixed-model") in found:
            removed = connection.execute(query("forget_embeddings_of_no_role"), {"queue": queue}).rowcount
            yield f"{removed} rows of {queue} by models without a role are deleted"
    for matcher in declarations.matchers:
        yield from _repair_matcher(connection, implementation(matcher, part_images), found)


def _repair_matcher(connection: Connection, matcher: Implementation, found: set[tuple[str, What]]) -> Iterator[str]:
    table = _table(matcher)
    if isinstance(matcher, PictureMatcher) and (table, "mixed-model") in found:
        # right rows keep their place and get the name of the active model, all in one transaction
        with ListsLock(connection, matcher.name).alone():
            figures = give_way(connection, partial(matcher.rebuild_at_once, connection))
        yield f"{table}: {figures}"
    elif any(name == table for name, _ in found):
        yield f"{table}: {matcher.rebuild(connection)}"
        if isinstance(matcher, VectorMatcher):
            parameters = {"matcher": matcher.name, "model": matcher.source}
            connection.execute(query("name_model_of_matches"), parameters)


def _embedding_queues(declarations: Declarations) -> list[str]:
    return [queue for queue, work in declarations.queues.items() if work in ("image", "text")]


def _table(matcher: Implementation) -> str:
    return f"matches of {matcher.name}"


def _mirror(source: str) -> str:
    return f"mirror of {source}"


def _mirror_faults(connection: Connection, source: str) -> Iterator[Fault]:
    found = set(unexplained_differences(connection, source))
    for what in ("missing", "stale", "orphaned"):
        keys = sorted(difference.key for difference in found if difference.what == what)
        yield Fault(_mirror(source), what, len(keys), ("key",), [(key,) for key in keys[:SHOWN]])


def _matcher_faults(connection: Connection, matcher: Implementation) -> Iterator[Fault]:
    """In the parts of a rebuild, so that memory holds the differences only."""
    if isinstance(matcher, PictureMatcher):
        parameters = {"matcher": matcher.name, "size": SHARD_ENTITIES}
        changes = []
        for within in named_rows(connection, "left_ranges", **parameters):
            wanted, stored, *_ = matcher.all_rows(connection, **within)
            changes.append(difference(wanted, stored))
        orphaned = concatenate([change.deletions for change in changes])
        yield from _match_faults(connection, matcher, changes, orphaned)
        return
    mutual = []
    blocks = connection.execute(query("blocks"), {"matcher": matcher.name}).fetchall()
    for same in [None, *(same for (same,) in blocks)]:
        here, listed = matcher.wanted_listings(connection, same)
        mutual.append(difference(pair_rows.paired(listed), pair_rows.stored_rows(connection, matcher.name, here)))
    lost = concatenate([change.deletions for change in mutual])
    # a pair of two blocks was found in both
    lost = lost.take(np.unique(lost.keys, return_index=True)[1])
    yield from _match_faults(connection, matcher, mutual, lost)


def _match_faults(
    connection: Connection, matcher: Implementation, changes: Sequence[Change[MatchRows]], orphaned: MatchRows
) -> Iterator[Fault]:
    missing = concatenate([change.upserts.take(change.new) for change in changes])
    stale = concatenate([change.upserts.take(~change.new) for change in changes])
    yield _match_fault(connection, matcher, "missing", missing)
    yield _match_fault(connection, matcher, "stale", stale)
    yield _match_fault(connection, matcher, "orphaned", orphaned)
    columns = ("left", "right", "model")
    table = _table(matcher)
    yield _counted(connection, table, "mixed-model", columns, "mixed_model_matches", matcher=matcher.name)


def _match_fault(connection: Connection, matcher: Implementation, what: What, rows: LeftRows | MutualRows) -> Fault:
    shown = rows.take(slice(SHOWN))
    left, right = (
        _keys(connection, matcher.sides.left, shown.left),
        _keys(connection, matcher.sides.right, shown.right),
    )
    scores = [f"{score:.6f}" for score in shown.similarity.tolist()]
    if isinstance(shown, LeftRows):
        first = list(zip(left, right, shown.rank.tolist(), scores, strict=True))
        return Fault(_table(matcher), what, len(rows), LEFT_COLUMNS, first)
    ranks = ([rank or "–" for rank in column.tolist()] for column in (shown.left_rank, shown.right_rank))
    return Fault(
        _table(matcher), what, len(rows), MUTUAL_COLUMNS, list(zip(left, right, *ranks, scores, strict=True))
    )


def _keys(connection: Connection, source: str, ids: Ids) -> list[str]:
    """The key of each entity; its id where the entity is gone."""
    parameters = {"source": source, "ids": Uuids(np.unique(ids))}
    keys: dict[UUID, str] = dict(connection.execute(query("keys_of_entities"), parameters).fetchall())
    return [keys.get(id, str(id)) for id in as_uuids(ids)]


def _counted(
    connection: Connection, table: str, what: What, columns: Sequence[str], name: str, **parameters: str
) -> Fault:
    rows = connection.execute(query(name), {"count": SHOWN, **parameters}).fetchall()
    return Fault(table, what, rows[0][0] if rows else 0, columns, [shown for _, *shown in rows])
