"""The lists of projects: their maintenance after projects or products changed, and their rebuild."""

from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
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
from matching_pipeline.matches.image_sets import (
    FEW_SOUGHT,
    PART_IMAGES,
    load_image_set,
    stream_image_sets,
    stream_projects_near,
)
from matching_pipeline.matches.kernel.columns import Ids, as_ids, as_uuids, concatenate
from matching_pipeline.matches.kernel.differences import Change, difference
from matching_pipeline.matches.kernel.images import ImageSet
from matching_pipeline.matches.kernel.lists import Lists, lists_from, merge, pairs_from
from matching_pipeline.matches.kernel.pairs import Pairs
from matching_pipeline.matches.kernel.policy import Policy
from matching_pipeline.matches.kernel.search import best_pairs, pairs_above
from matching_pipeline.matches.locks import ListsLock
from matching_pipeline.matches.match_table import Figures, match_policy
from matching_pipeline.matches.project_rows import (
    ProjectRows,
    changed_projects,
    hold_evidence,
    pairs_of,
    put_rows,
    rows_of,
    stored_rows,
    without,
)
from matching_pipeline.matches.rebuilds import Shard
from matching_pipeline.queues import client

QUEUE = "matches"
KIND = "project"
LISTS_AT_ONCE = 1000
"""Lists that a rebuild writes in one transaction."""


@dataclass(frozen=True)
class Rules:
    """The inputs of lists besides the images."""

    policy: Policy
    model: str
    """empty until the first image was analysed"""
    part_images: int
    """how many images of the other side are held at once"""


def update(
    connection: Connection,
    projects: Collection[UUID],
    products: Collection[UUID],
    part_images: int = PART_IMAGES,
) -> Figures:
    """Maintains the lists after these entities changed, in the caller's transaction, which has taken the lists."""
    rules = _rules(connection, part_images)
    lists, stored = _merge_products(connection, rules, set(products)) if products else ({}, {})
    lists |= _recompute(connection, rules, set(projects) | (stored.keys() - lists.keys()))
    wanted = rows_of(pairs_from(lists))
    figures = _write(connection, rules.model, difference(wanted, stored_rows(connection, as_ids(sorted(lists)))))
    figures.lists, figures.unchanged = len(lists), len(wanted) - figures.added - figures.changed
    return figures


def rebuild(
    connection: Connection,
    on_progress: rebuilds.OnProgress = lambda done, total: None,
    part_images: int = PART_IMAGES,
) -> Figures:
    """Recomputes every list, shard by shard, and writes the difference."""
    return rebuilds.run_all(connection, KIND, partial(rebuild_shard, part_images=part_images), on_progress)


def rebuild_shard(
    connection: Connection, shard: Shard, on_part: rebuilds.OnPart, part_images: int = PART_IMAGES
) -> Figures:
    """Writes lists that differ in transactions of LISTS_AT_ONCE, two at a time."""
    within = {"first": shard.first_project, "before": shard.before_project}
    wanted, stored, count, rules = give_way(connection, partial(all_rows, connection, part_images, **within))
    changed, figures = changed_projects(difference(wanted, stored)), Figures(lists=count)
    parts = [changed[begin : begin + LISTS_AT_ONCE] for begin in range(0, len(changed), LISTS_AT_ONCE)]

    def write(session: Connection, projects: Ids) -> Figures:
        return give_way(session, partial(_write_lists, session, rules.model, projects, wanted.of(projects)))

    lock = ListsLock(connection, KIND)
    with lock.sharing_sessions(len(parts)) as sessions, ThreadPoolExecutor(len(sessions)) as pool:
        for begin in range(0, len(parts), len(sessions)):
            on_part(count - len(changed) + begin * LISTS_AT_ONCE)
            for part_figures in pool.map(write, sessions, parts[begin : begin + len(sessions)]):
                figures += part_figures
    on_part(count)
    figures.unchanged = len(wanted) - figures.added - figures.changed
    return figures


def rebuild_at_once(connection: Connection, part_images: int = PART_IMAGES) -> Figures:
    """Rebuilds in the caller's transaction, which has taken the lists and changes the model. A reader sees either the
    pairs of the old model or those of the new one."""
    wanted, stored, count, rules = all_rows(connection, part_images)
    there = hold_evidence(connection, wanted)
    client.enqueue(connection, QUEUE, "project", set(as_uuids(wanted.project[~there])))
    wanted = wanted.take(there).ranked()
    figures = put_rows(connection, rules.model, difference(wanted, stored))
    # pairs that both models score the same were not written
    connection.execute(query("name_model_of_matches"), {"model": rules.model})
    figures.lists, figures.unchanged = count, len(wanted) - figures.added - figures.changed
    return figures


def all_rows(
    connection: Connection, part_images: int = PART_IMAGES, first: UUID | None = None, before: UUID | None = None
) -> tuple[ProjectRows, ProjectRows, int, Rules]:
    """The wanted and the stored rows of a range of projects, the number of projects with either, and the rules."""
    rules = _rules(connection, part_images)
    projects = load_image_set(connection, "project", rules.model, first=first, before=before)
    stored = stored_rows(connection, first=first, before=before)
    wanted = rows_of(best_pairs(projects, _all_products(connection, rules), rules.policy))
    return wanted, stored, len(np.union1d(projects.entities, stored.project)), rules


def best_matches(connection: Connection, count: int) -> list[Any]:
    """The projects' best products, best first: ids, similarity, thumbnails, URLs."""
    with connection.cursor(row_factory=namedtuple_row) as cursor:
        return cursor.execute(query("best_matches"), {"count": count}).fetchall()


def _rules(connection: Connection, part_images: int) -> Rules:
    model = connection.execute(query("active_image_model")).fetchone()
    return Rules(match_policy(connection, KIND), model[0] if model else "", part_images)


def _all_products(connection: Connection, rules: Rules) -> Iterator[ImageSet]:
    return stream_image_sets(connection, "product", rules.model, rules.part_images)


def _merge_products(connection: Connection, rules: Rules, changed: set[UUID]) -> tuple[Lists, Lists]:
    """The merged lists, and the stored lists of all projects that the changed products touch.

    A list that is stored and not merged must be recomputed.
    """
    listing = connection.execute(query("projects_of_products"), {"product_ids": list(changed)})
    stored: Lists = {project: [] for (project,) in listing}
    scored = lists_from(_scored(connection, rules, load_image_set(connection, "product", rules.model, changed)))
    stored |= {project: [] for project in scored}
    stored |= lists_from(pairs_of(stored_rows(connection, as_ids(sorted(stored)))))
    merged = {
        project: merge(pairs, changed, scored.get(project, ()), rules.policy) for project, pairs in stored.items()
    }
    return {project: pairs for project, pairs in merged.items() if pairs is not None}, stored


def _scored(connection: Connection, rules: Rules, products: ImageSet) -> Pairs:
    """The pairs of these products that lists take."""
    policy = rules.policy
    if len(products.image_ids) > FEW_SOUGHT:
        floors = _floors(connection, policy)
        parts = stream_image_sets(connection, "project", rules.model, rules.part_images)
        return concatenate([pairs_above(projects, products, policy, floors) for projects in parts])
    parts = stream_projects_near(connection, rules.model, products, policy, rules.part_images)
    pairs = concatenate([pairs_above(projects, products, policy, {}) for projects in parts])
    floors = _floors(connection, policy, np.unique(pairs.left))
    return pairs.take(pairs.similarity >= np.array([floors.get(project, -1) for project in as_uuids(pairs.left)]))


def _floors(connection: Connection, policy: Policy, projects: Ids | None = None) -> dict[UUID, float]:
    """The last score of each list that is full, of all projects or of those named."""
    parameters = {"limit": policy.limit, "project_ids": None if projects is None else Uuids(projects)}
    return dict(connection.execute(query("full_list_floors"), parameters).fetchall())


def _recompute(connection: Connection, rules: Rules, projects: set[UUID]) -> Lists:
    """The lists of these projects. A project without images has an empty list."""
    if not projects:
        return {}
    lists: Lists = {project: [] for project in projects}
    images = load_image_set(connection, "project", rules.model, projects)
    return lists | lists_from(best_pairs(images, _all_products(connection, rules), rules.policy))


def _write_lists(connection: Connection, model: str, projects: Ids, wanted: ProjectRows) -> Figures:
    """Reads the stored lists again, as the app may have deleted some rows."""
    return _write(connection, model, difference(wanted, stored_rows(connection, projects)))


def _write(connection: Connection, model: str, change: Change[ProjectRows]) -> Figures:
    """Writes the lists whose evidence exists. Projects whose lists lack some are matched again.

    The foreign keys check and lock the evidence of each pair. Only after they refused a pair is it looked up here.
    """
    try:
        with connection.transaction():
            return put_rows(connection, model, change)
    except ForeignKeyViolation:
        gone = np.unique(change.upserts.project[~hold_evidence(connection, change.upserts)])
        client.enqueue(connection, QUEUE, "project", as_uuids(gone))
        return put_rows(connection, model, without(change, gone))
