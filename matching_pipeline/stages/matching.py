"""The `matches` lane: what a changed project or product changes in `matches`, and the rebuild of all its pairs."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

from psycopg.rows import namedtuple_row

from matching_pipeline import queue
from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import query
from matching_pipeline.db.transactions import give_way
from matching_pipeline.drain import Outcome
from matching_pipeline.matching.kernel import Policy, best_pairs, pairs_above
from matching_pipeline.matching.lists import Lists, Pair, difference, lists_from, merge
from matching_pipeline.queue import Item
from matching_pipeline.stages import rebuilds
from matching_pipeline.stages.image_sets import load_image_set
from matching_pipeline.stages.match_table import Figures, match_policy, take_lists
from matching_pipeline.stages.rebuilds import Shard

LANE = "matches"
KIND = "project"
LISTS_AT_ONCE = 1000
"""Lists that a rebuild publishes in one transaction."""

Stored = dict[UUID, list[tuple[Pair, int]]]
"""By project, the pairs that stand and their ranks, in order of rank."""


class MatchingStage:
    """Everything happens in the transaction that completes the items, in one session at a time.

    A list depends on every project and product, so whoever writes lists must see what the last writer committed.
    """

    lane = LANE
    batch_size = 500
    lease = timedelta(minutes=5)

    def work(self, connection: Connection, items: Sequence[Item]) -> Iterator[list[Outcome]]:
        yield [Outcome(item) for item in items]

    def prepare_write(self, connection: Connection) -> None:
        take_lists(connection, KIND)

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
    """Maintains `matches` after these entities changed, in the caller's transaction, which holds the lists' lock."""
    basis = _basis(connection)
    merged, stored = _merge_products(connection, basis, set(products)) if products else ({}, {})
    refill = set(projects) | (stored.keys() - merged.keys())
    stored |= _stored(connection, refill - stored.keys())
    return _publish(connection, basis, merged | _fill(connection, basis, refill), stored)


def rebuild(connection: Connection, on_progress: rebuilds.OnProgress = lambda done, total: None) -> Figures:
    """Computes every list anew and writes the difference, shard by shard."""
    return rebuilds.run_all(connection, KIND, rebuild_shard, on_progress)


def rebuild_shard(connection: Connection, shard: Shard, on_part: rebuilds.OnPart) -> Figures:
    figures = Figures()
    basis, lists = give_way(connection, partial(_all_lists, connection, shard.first_project, shard.before_project))
    for part in _parts(lists):
        figures += give_way(connection, partial(_publish_anew, connection, basis, part))
        on_part(figures.lists)
    return figures


def rebuild_at_once(connection: Connection) -> Figures:
    """The same in the caller's transaction, which holds the lists' lock and changes the model: a reader sees the old
    model's pairs or the new one's, never some of each."""
    basis, lists = _all_lists(connection)
    figures = Figures()
    for part in _parts(lists):
        figures += _publish_anew(connection, basis, _with_evidence(connection, part))
    # pairs that both models score the same were not written
    connection.execute(query("name_model_of_matches"), {"model": basis.model})
    return figures


def best_matches(connection: Connection, count: int) -> list[Any]:
    """The projects' best products, best first, with what shows them: ids, similarity, thumbnails, URLs."""
    with connection.cursor(row_factory=namedtuple_row) as cursor:
        return cursor.execute(query("best_matches"), {"count": count}).fetchall()


def _basis(connection: Connection) -> Basis:
    """Before the first image was analysed the model has no name, and no images."""
    model = connection.execute(query("active_image_model")).fetchone()
    return Basis(match_policy(connection, KIND), model[0] if model else "")


def _merge_products(connection: Connection, basis: Basis, changed: set[UUID]) -> tuple[Lists, Stored]:
    """The merged lists, and what stands of every list that the changed products touch.

    A list that is touched and not merged must be filled again.
    """
    present = {
        project
        for project, _ in connection.execute(query("pairs_of_products"), {"product_ids": list(changed)}).fetchall()
    }
    floors = {
        project: floor
        for project, floor in connection.execute(query("full_list_floors"), {"limit": basis.policy.limit})
        if project not in present  # whatever became of the pair, it is wanted
    }
    scored = lists_from(
        pairs_above(
            load_image_set(connection, "project", basis.model),
            load_image_set(connection, "product", basis.model, changed),
            basis.policy,
            floors,
        )
    )
    touched = scored.keys() | present
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
    return lists | lists_from(
        best_pairs(
            load_image_set(connection, "project", basis.model, projects),
            [load_image_set(connection, "product", basis.model)],
            basis.policy,
        )
    )


def _all_lists(connection: Connection, first: UUID | None = None, before: UUID | None = None) -> tuple[Basis, Lists]:
    """Also of the projects that have matches: one that has no image any more is to lose them."""
    basis = _basis(connection)
    listed = connection.execute(query("listed_projects"), {"first": first, "before": before})
    lists: Lists = {project: [] for (project,) in listed}
    projects = load_image_set(connection, "project", basis.model, first=first, before=before)
    products = load_image_set(connection, "product", basis.model)
    return basis, lists | lists_from(best_pairs(projects, [products], basis.policy))


def _parts(lists: Lists) -> Iterator[Lists]:
    everybody = sorted(lists)
    for first in range(0, len(everybody), LISTS_AT_ONCE):
        yield {project: lists[project] for project in everybody[first : first + LISTS_AT_ONCE]}


def _stored(connection: Connection, projects: Collection[UUID]) -> Stored:
    stored: Stored = defaultdict(list)
    for project, product, similarity, project_image, product_image, rank in connection.execute(
        query("stored_lists"), {"project_ids": list(projects)}
    ):
        stored[project].append((Pair(product, similarity, project_image, product_image), rank))
    return dict(stored)


def _publish_anew(connection: Connection, basis: Basis, lists: Lists) -> Figures:
    return _publish(connection, basis, lists, _stored(connection, lists))


def _publish(connection: Connection, basis: Basis, desired: Lists, stored: Stored) -> Figures:
    """Writes the difference. A list with a pair whose evidence has gone since it was read is left as it is, and
    its project matched again."""
    gone = _projects_without_evidence(connection, difference(stored, desired).upserts)
    queue.enqueue(connection, LANE, "project", gone)
    standing = {project: pairs for project, pairs in stored.items() if project not in gone}
    wanted = {project: pairs for project, pairs in desired.items() if project not in gone}
    change = difference(standing, wanted)
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
        connection.execute(query("publish_matches"), {"model": basis.model, **_columns(change.upserts)})
    return Figures(len(wanted), change.added, change.changed, len(change.deletions), change.unchanged)


def _with_evidence(connection: Connection, lists: Lists) -> Lists:
    """The lists without the pairs whose evidence has gone since it was read; their projects are matched again."""
    upserts = [(project, pair, 0) for project, pairs in lists.items() for pair in pairs]
    held = _held(connection, upserts)
    queue.enqueue(
        connection, LANE, "project", {project for project, pair, _ in upserts if (project, pair) not in held}
    )
    return {project: [pair for pair in pairs if (project, pair) in held] for project, pairs in lists.items()}


def _projects_without_evidence(connection: Connection, upserts: Sequence[tuple[UUID, Pair, int]]) -> set[UUID]:
    """Of pairs about to be written. What stands is held until we commit."""
    held = _held(connection, upserts)
    return {project for project, pair, _ in upserts if (project, pair) not in held}


def _held(connection: Connection, upserts: Sequence[tuple[UUID, Pair, int]]) -> set[tuple[UUID, Pair]]:
    """Those of the pairs whose images and their owners stand, and do until we commit."""
    if not upserts:
        return set()
    held = set(connection.execute(query("hold_evidence"), _columns(upserts)).fetchall())
    return {(project, pair) for project, pair, _ in upserts if (project, pair.right_id) in held}


def _columns(upserts: Sequence[tuple[UUID, Pair, int]]) -> dict[str, list[Any]]:
    projects, pairs, ranks = zip(*upserts, strict=True)
    return {
        "project_ids": list(projects),
        "product_ids": [pair.right_id for pair in pairs],
        "project_image_ids": [pair.left_image_id for pair in pairs],
        "product_image_ids": [pair.right_image_id for pair in pairs],
        "similarities": [pair.similarity for pair in pairs],
        "ranks": list(ranks),
    }
