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
from typing import Any, Literal, NamedTuple
from uuid import UUID

import numpy as np

from matching_pipeline.db.arrays import Uuids
from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import query
from matching_pipeline.db.transactions import give_way, snapshot
from matching_pipeline.matches.image_sets import PART_IMAGES
from matching_pipeline.matches.kernel.columns import Ids, as_uuids, concatenate
from matching_pipeline.matches.locks import ListsLock
from matching_pipeline.matches.matching import Matching, matching_of
from matching_pipeline.matches.rows import MatchRows
from matching_pipeline.sources.comparison import unexplained_differences
from matching_pipeline.sources.declarations import Declarations
from matching_pipeline.sources.enqueue import enqueue_missing, enqueue_resync

SHOWN = 5
"""Rows of each fault that are named."""

What = Literal["missing", "stale", "orphaned", "mixed-model"]

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
    """The first rows as they should be; orphaned and mixed-model rows as they are; only the keys of the mirror."""


class Report(NamedTuple):
    faults: list[Fault]
    waiting: dict[str, int]
    """By queue, the unfinished jobs at that instant. They may yet repair what differs in `matches`."""


def audit(connection: Connection, declarations: Declarations, part_images: int = PART_IMAGES) -> Report:
    """Writes nothing."""
    with snapshot(connection):
        found: list[Fault] = []
        for matcher in declarations.matchers:
            found += _matcher_faults(connection, matching_of(matcher, part_images))
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
        yield from _repair_matcher(connection, matching_of(matcher, part_images), found)


def _repair_matcher(connection: Connection, matching: Matching, found: set[tuple[str, What]]) -> Iterator[str]:
    table = _table(matching)
    if (table, "mixed-model") in found:
        # right rows keep their place and get the name of the active model, all in one transaction
        with ListsLock(connection, matching.name).alone():
            figures = give_way(connection, partial(matching.rebuild_at_once, connection))
        yield f"{table}: {figures}"
    elif any(name == table for name, _ in found):
        yield f"{table}: {matching.rebuild(connection)}"


def _embedding_queues(declarations: Declarations) -> list[str]:
    return [queue for queue, work in declarations.queues.items() if work in ("image", "text")]


def _table(matching: Matching) -> str:
    return f"matches of {matching.name}"


def _mirror(source: str) -> str:
    return f"mirror of {source}"


def _mirror_faults(connection: Connection, source: str) -> Iterator[Fault]:
    found = set(unexplained_differences(connection, source))
    for what in ("missing", "stale", "orphaned"):
        keys = sorted(difference.key for difference in found if difference.what == what)
        yield Fault(_mirror(source), what, len(keys), ("key",), [(key,) for key in keys[:SHOWN]])


def _matcher_faults(connection: Connection, matching: Matching) -> Iterator[Fault]:
    """Compares in the parts of a rebuild, so that memory holds only the differences."""
    changes = [each.change for each in matching.differences(connection)]
    lost = concatenate([change.deletions for change in changes])
    faults: dict[What, MatchRows] = {
        "missing": concatenate([change.upserts.take(change.new) for change in changes]),
        "stale": concatenate([change.upserts.take(~change.new) for change in changes]),
        # a pair of two blocks was found in both
        "orphaned": lost.take(np.unique(lost.keys, return_index=True)[1]),
    }
    for what, rows in faults.items():
        yield _match_fault(connection, matching, what, rows)
    columns = ("left", "right", "model")
    yield _counted(connection, _table(matching), "mixed-model", columns, "mixed_model_matches", matcher=matching.name)


def _match_fault(connection: Connection, matching: Matching, what: What, rows: MatchRows) -> Fault:
    rule, shown = matching.rule, rows.take(slice(SHOWN))
    left, right = _keys(connection, rule.left, shown.left), _keys(connection, rule.right, shown.right)
    ranks = [[rank or "–" for rank in column.tolist()] for column in (shown.left_rank, shown.right_rank)]
    columns = ("left", "right", *(("left rank", "right rank") if rule.both else ("rank",)), "similarity")
    scores = [f"{score:.6f}" for score in shown.similarity.tolist()]
    first = list(zip(left, right, *ranks[: len(columns) - 3], scores, strict=True))
    return Fault(_table(matching), what, len(rows), columns, first)


def _keys(connection: Connection, source: str, ids: Ids) -> list[str]:
    """The key of each entity; its id if the entity is gone."""
    parameters = {"source": source, "ids": Uuids(np.unique(ids))}
    keys: dict[UUID, str] = dict(connection.execute(query("keys_of_entities"), parameters).fetchall())
    return [keys.get(id, str(id)) for id in as_uuids(ids)]


def _counted(
    connection: Connection, table: str, what: What, columns: Sequence[str], name: str, **parameters: str
) -> Fault:
    rows = connection.execute(query(name), {"count": SHOWN, **parameters}).fetchall()
    return Fault(table, what, rows[0][0] if rows else 0, columns, [shown for _, *shown in rows])
