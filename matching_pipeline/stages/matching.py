"""The `matches` lane: what a changed project or product changes in `matches`, and the rebuild of all of it."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import namedtuple_row

from matching_pipeline import queue
from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import query
from matching_pipeline.db.transactions import give_way, limit_lock_waits
from matching_pipeline.drain import Busy, Outcome
from matching_pipeline.matching.kernel import Lists, Pair, Policy, best_lists, pairs_above
from matching_pipeline.matching.lists import difference, merge
from matching_pipeline.queue import Item
from matching_pipeline.stages.image_sets import load_image_set

LANE = "matches"
SHARD_PROJECTS = 1000
"""Lists published in one transaction by a rebuild."""

Stored = dict[UUID, list[tuple[Pair, int]]]
"""By project, the pairs that stand and their ranks, in order of rank."""


@dataclass
class Figures:
    """What maintaining `matches` did to its rows."""

    projects: int = 0
    """lists that were looked at"""
    added: int = 0
    changed: int = 0
    removed: int = 0
    unchanged: int = 0

    def __iadd__(self, other: "Figures") -> "Figures":
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)
        return self


class MatchingStage:
    """Everything happens in the transaction that completes the items, in one session at a time.

    A list depends on every project and product, so whoever writes lists must see what the last writer committed.
    """

    lane = LANE
    batch_size = 500
    lease = timedelta(minutes=5)

    def work(self, connection: Connection, items: Sequence[Item]) -> Iterator[list[Outcome]]:
        yield [Outcome(item) for item in items]

    def write(self, connection: Connection, outcomes: Sequence[Outcome]) -> dict[str, int]:
        changed: dict[str, set[UUID]] = defaultdict(set)
        for outcome in outcomes:
            changed[outcome.item.entity_kind].add(outcome.item.entity_id)
        return vars(update(connection, changed["project"], changed["product"]))

    def forget(self, connection: Connection, item: Item) -> None:
        """A list stays as good as it was until its item is retried."""


@dataclass(frozen=True)
class Basis:
    """What lists are computed from, besides the images."""

    policy: Policy
    model: str


def update(connection: Connection, projects: Collection[UUID], products: Collection[UUID]) -> Figures:
    """Maintains `matches` after these entities changed, inside the caller's transaction.

    Raises Busy where another session holds the lists for longer than 20 seconds.
    """
    _lock_lists(connection)
    basis = _basis(connection)
    if basis is None:
        return Figures()
    merged, stored = _merge_products(connection, basis, set(products)) if products else ({}, {})
    refill = set(projects) | (stored.keys() - merged.keys())
    stored |= _stored(connection, refill - stored.keys())
    return _publish(connection, basis, merged | _fill(connection, basis, refill), stored)


def rebuild(connection: Connection, on_progress: Callable[[int, int], None] = lambda done, total: None) -> Figures:
    """Computes every list anew and writes the difference, a shard of projects a transaction.

    Changes that arrive meanwhile wait in the queue and are merged afterwards, as drains need the same lock.
    """
    figures = Figures()
    connection.execute(query("hold_matches"))
    try:
        basis = _basis(connection)
        if basis is None:
            return figures
        projects = load_image_set(connection, "project", basis.model)
        products = load_image_set(connection, "product", basis.model)
        stored = _stored(connection, None)
        lists = best_lists(projects, products, basis.policy)
        everybody = sorted(lists.keys() | stored.keys())
        for first in range(0, len(everybody), SHARD_PROJECTS):
            shard = everybody[first : first + SHARD_PROJECTS]
            desired = {project: lists.get(project, []) for project in shard}
            standing = {project: stored[project] for project in shard if project in stored}
            figures += give_way(connection, partial(_publish, connection, basis, desired, standing))
            on_progress(first + len(shard), len(everybody))
    finally:
        if not connection.closed:
            connection.execute(query("release_matches"))
    return figures


def best_matches(connection: Connection, count: int) -> list[Any]:
    """The projects' best products, best first, with what shows them: ids, similarity, thumbnails, URLs."""
    with connection.cursor(row_factory=namedtuple_row) as cursor:
        return cursor.execute(query("best_matches"), {"count": count}).fetchall()


def _lock_lists(connection: Connection) -> None:
    limit_lock_waits(connection, "20s")
    try:
        connection.execute(query("lock_matches"))
    except psycopg.errors.LockNotAvailable:
        raise Busy("a rebuild or another drain writes `matches`") from None
    limit_lock_waits(connection)


def _basis(connection: Connection) -> Basis | None:
    """None before the first image was analysed."""
    model = connection.execute(query("active_image_model")).fetchone()
    policy = connection.execute(query("match_policy")).fetchone()
    assert policy is not None
    return Basis(Policy(*policy), model[0]) if model else None


def _merge_products(connection: Connection, basis: Basis, changed: set[UUID]) -> tuple[Lists, Stored]:
    """The merged lists, and what stands of every list that the changed products touch.

    A list that is touched and not merged must be filled again.
    """
    floors: dict[UUID, float] = dict(
        connection.execute(query("full_list_floors"), {"limit": basis.policy.limit}).fetchall()
    )
    present = set(connection.execute(query("pairs_of_products"), {"product_ids": list(changed)}).fetchall())
    scored = pairs_above(
        load_image_set(connection, "project", basis.model),
        load_image_set(connection, "product", basis.model, changed),
        basis.policy,
        floors,
        present,
    )
    touched = scored.keys() | {project for project, _ in present}
    stored: Stored = {project: [] for project in touched}
    stored |= _stored(connection, touched)
    merged: Lists = {}
    for project, standing in stored.items():
        pairs = merge([pair for pair, _ in standing], changed, scored.get(project, ()), basis.policy)
        if pairs is not None:
            merged[project] = pairs
    return merged, stored


def _fill(connection: Connection, basis: Basis, projects: set[UUID]) -> Lists:
    """The lists of these projects from nothing; one without images has an empty list."""
    if not projects:
        return {}
    lists: Lists = {project: [] for project in projects}
    return lists | best_lists(
        load_image_set(connection, "project", basis.model, projects),
        load_image_set(connection, "product", basis.model),
        basis.policy,
    )


def _stored(connection: Connection, projects: Collection[UUID] | None) -> Stored:
    stored: Stored = defaultdict(list)
    parameters = {"project_ids": None if projects is None else list(projects)}
    for project, product, similarity, project_image, product_image, rank in connection.execute(
        query("stored_lists"), parameters
    ):
        stored[project].append((Pair(product, similarity, project_image, product_image), rank))
    return dict(stored)


def _publish(connection: Connection, basis: Basis, desired: Lists, stored: Stored) -> Figures:
    """Writes the difference. A project whose row could not be written, since what it refers to has gone, is
    matched again."""
    change = difference(stored, desired)
    if change.deletions:
        connection.execute(query("begin_publishing"))
        connection.execute(
            query("delete_matches"),
            {
                "project_ids": [project for project, _ in change.deletions],
                "product_ids": [product for _, product in change.deletions],
            },
        )
    if change.upserts:
        projects, pairs, ranks = zip(*change.upserts, strict=True)
        written = connection.execute(
            query("publish_matches"),
            {
                "model": basis.model,
                "project_ids": list(projects),
                "product_ids": [pair.product_id for pair in pairs],
                "project_image_ids": [pair.project_image_id for pair in pairs],
                "product_image_ids": [pair.product_image_id for pair in pairs],
                "similarities": [pair.similarity for pair in pairs],
                "ranks": list(ranks),
            },
        ).fetchall()
        planned = {(project, pair.product_id) for project, pair in zip(projects, pairs, strict=True)}
        if refused := {project for project, _ in planned - set(written)}:
            queue.enqueue(connection, LANE, "project", refused)
    return Figures(len(desired), change.added, change.changed, len(change.deletions), change.unchanged)
