"""The `matches` lane: what a changed project or product changes in `matches`, and the rebuild of all its pairs."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

import numpy as np
from psycopg.errors import ForeignKeyViolation
from psycopg.rows import namedtuple_row

from matching_pipeline.db.arrays import Uuids
from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import query
from matching_pipeline.db.transactions import give_way
from matching_pipeline.matches import rebuilds
from matching_pipeline.matches.image_sets import FEW_SOUGHT, load_image_set, stream_image_sets, stream_projects_near
from matching_pipeline.matches.kernel.columns import Ids, as_ids, as_uuids, concatenate
from matching_pipeline.matches.kernel.images import ImageSet
from matching_pipeline.matches.kernel.lists import Lists, lists_from, merge, pairs_from
from matching_pipeline.matches.kernel.pairs import Pairs
from matching_pipeline.matches.kernel.policy import Policy
from matching_pipeline.matches.kernel.search import best_pairs, pairs_above
from matching_pipeline.matches.match_table import Figures, match_policy, take_lists, writers
from matching_pipeline.matches.project_rows import (
    Change,
    ProjectRows,
    difference,
    held,
    pairs_of,
    put,
    rows_of,
    stored_rows,
)
from matching_pipeline.matches.rebuilds import Shard
from matching_pipeline.queues import client
from matching_pipeline.queues.client import Job
from matching_pipeline.queues.worker import Outcome

QUEUE = "matches"
KIND = "project"
LISTS_AT_ONCE = 1000
"""Lists that a rebuild publishes in one transaction."""


class MatchHandler:
    """Everything happens in the transaction that completes the items, in one session at a time.

    A list depends on every project and product, so whoever writes lists must see what the last writer committed.
    """

    queue = QUEUE
    batch_size = 500
    lease = timedelta(minutes=5)

    def work(self, connection: Connection, jobs: Sequence[Job]) -> Iterator[list[Outcome]]:
        yield [Outcome(job) for job in jobs]

    def prepare_write(self, connection: Connection) -> None:
        take_lists(connection, KIND)

    def write(self, connection: Connection, outcomes: Sequence[Outcome]) -> dict[str, int]:
        changed: dict[str, set[UUID]] = defaultdict(set)
        for outcome in outcomes:
            changed[outcome.job.entity_kind].add(outcome.job.entity_id)
        return vars(update(connection, changed["project"], changed["product"]))

    def forget(self, connection: Connection, job: Job) -> None:
        """A list stays as good as it was until its item is retried."""


@dataclass(frozen=True)
class Basis:
    """What lists are computed from, besides the images."""

    policy: Policy
    model: str


def update(connection: Connection, projects: Collection[UUID], products: Collection[UUID]) -> Figures:
    """Maintains `matches` after these entities changed, in the caller's transaction, which holds the lists' lock."""
    basis = _basis(connection)
    lists, standing = _merge_products(connection, basis, set(products)) if products else ({}, {})
    refill = set(projects) | (standing.keys() - lists.keys())
    lists |= _fill(connection, basis, refill)
    wanted, stored = rows_of(pairs_from(lists)), stored_rows(connection, as_ids(sorted(lists)))
    figures = _publish(connection, basis.model, difference(wanted, stored))
    figures.lists, figures.unchanged = len(lists), len(wanted) - figures.added - figures.changed
    return figures


def rebuild(connection: Connection, on_progress: rebuilds.OnProgress = lambda done, total: None) -> Figures:
    """Computes every list anew and writes the difference, shard by shard."""
    return rebuilds.run_all(connection, KIND, rebuild_shard, on_progress)


def rebuild_shard(connection: Connection, shard: Shard, on_part: rebuilds.OnPart) -> Figures:
    """In transactions of LISTS_AT_ONCE lists that do not stand as they should, two at a time."""
    within = {"first": shard.first_project, "before": shard.before_project}
    basis, wanted, stored, count = give_way(connection, partial(all_rows, connection, **within))
    changed, figures = difference(wanted, stored).projects, Figures(lists=count)
    parts = [changed[begin : begin + LISTS_AT_ONCE] for begin in range(0, len(changed), LISTS_AT_ONCE)]

    def publish(session: Connection, part: Ids) -> Figures:
        return give_way(session, partial(_publish_anew, session, basis.model, part, wanted.of(part)))

    with writers(connection, KIND, len(parts)) as sessions, ThreadPoolExecutor(len(sessions)) as pool:
        for begin in range(0, len(parts), len(sessions)):
            on_part(count - len(changed) + begin * LISTS_AT_ONCE)
            for part_figures in pool.map(publish, sessions, parts[begin : begin + len(sessions)]):
                figures += part_figures
    on_part(count)
    figures.unchanged = len(wanted) - figures.added - figures.changed
    return figures


def rebuild_at_once(connection: Connection) -> Figures:
    """The same in the caller's transaction, which holds the lists' lock and changes the model: a reader sees the old
    model's pairs or the new one's, never some of each."""
    basis, wanted, stored, count = all_rows(connection)
    here = held(connection, wanted)
    client.enqueue(connection, QUEUE, "project", set(as_uuids(wanted.project[~here])))
    wanted = wanted.take(here).ranked()
    figures = put(connection, basis.model, difference(wanted, stored))
    # pairs that both models score the same were not written
    connection.execute(query("name_model_of_matches"), {"model": basis.model})
    figures.lists, figures.unchanged = count, len(wanted) - figures.added - figures.changed
    return figures


def best_matches(connection: Connection, count: int) -> list[Any]:
    """The projects' best products, best first, with what shows them: ids, similarity, thumbnails, URLs."""
    with connection.cursor(row_factory=namedtuple_row) as cursor:
        return cursor.execute(query("best_matches"), {"count": count}).fetchall()


def _basis(connection: Connection) -> Basis:
    """Before the first image was analysed the model has no name, and no images."""
    model = connection.execute(query("active_image_model")).fetchone()
    return Basis(match_policy(connection, KIND), model[0] if model else "")


def _merge_products(connection: Connection, basis: Basis, changed: set[UUID]) -> tuple[Lists, Lists]:
    """The merged lists, and what stands of every list that the changed products touch.

    A list that is touched and not merged must be filled again.
    """
    present = {
        project for (project,) in connection.execute(query("projects_of_products"), {"product_ids": list(changed)})
    }
    scored = lists_from(_scored(connection, basis, load_image_set(connection, "product", basis.model, changed)))
    touched = sorted(scored.keys() | present)
    standing: Lists = {project: [] for project in touched}
    standing |= lists_from(pairs_of(stored_rows(connection, as_ids(touched))))
    merged = {
        project: merge(stored, changed, scored.get(project, ()), basis.policy) for project, stored in standing.items()
    }
    return {project: pairs for project, pairs in merged.items() if pairs is not None}, standing


def _scored(connection: Connection, basis: Basis, products: ImageSet) -> Pairs:
    """The pairs of these products that lists take."""
    model, policy = basis.model, basis.policy
    if len(products.image_ids) > FEW_SOUGHT:
        floors = _floors(connection, policy)
        parts = stream_image_sets(connection, "project", model)
        return concatenate([pairs_above(projects, products, policy, floors) for projects in parts])
    parts = stream_projects_near(connection, model, products, policy)
    pairs = concatenate([pairs_above(projects, products, policy, {}) for projects in parts])
    floors = _floors(connection, policy, np.unique(pairs.left))
    return pairs.take(pairs.similarity >= np.array([floors.get(project, -1) for project in as_uuids(pairs.left)]))


def _floors(connection: Connection, policy: Policy, projects: Ids | None = None) -> dict[UUID, float]:
    """The last score of each list that is full, of all projects or of those named."""
    parameters = {"limit": policy.limit, "project_ids": None if projects is None else Uuids(projects)}
    return dict(connection.execute(query("full_list_floors"), parameters).fetchall())


def _fill(connection: Connection, basis: Basis, projects: set[UUID]) -> Lists:
    """The lists of these projects from nothing; one without images has an empty list."""
    if not projects:
        return {}
    lists: Lists = {project: [] for project in projects}
    return lists | lists_from(
        best_pairs(
            load_image_set(connection, "project", basis.model, projects),
            stream_image_sets(connection, "product", basis.model),
            basis.policy,
        )
    )


def all_rows(
    connection: Connection, first: UUID | None = None, before: UUID | None = None
) -> tuple[Basis, ProjectRows, ProjectRows, int]:
    """What should stand, what does, and how many projects there are: one without an image is to lose its rows."""
    basis = _basis(connection)
    projects = load_image_set(connection, "project", basis.model, first=first, before=before)
    stored = stored_rows(connection, first=first, before=before)
    products = stream_image_sets(connection, "product", basis.model)
    wanted = rows_of(best_pairs(projects, products, basis.policy))
    return basis, wanted, stored, len(np.union1d(projects.entities, stored.project))


def _publish_anew(connection: Connection, model: str, projects: Ids, wanted: ProjectRows) -> Figures:
    """Looks again at what stands, as the app may have deleted some of it."""
    return _publish(connection, model, difference(wanted, stored_rows(connection, projects)))


def _publish(connection: Connection, model: str, change: Change) -> Figures:
    """A list with a pair whose evidence has gone since it was read is left, and its project matched again.

    The foreign keys look for each pair's evidence and hold it; we look ourselves only where they miss some.
    """
    try:
        with connection.transaction():
            return put(connection, model, change)
    except ForeignKeyViolation:
        gone = np.unique(change.upserts.project[~held(connection, change.upserts)])
        client.enqueue(connection, QUEUE, "project", as_uuids(gone))
        return put(connection, model, change.without(gone))
