"""The rows of `matches` that pair projects with products, as columns: read, compared, written by their difference."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from matching_pipeline.db.arrays import FLOAT, INTEGER, UUID, Floats, Integers, Uuids, copy_out
from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import query
from matching_pipeline.matches.kernel.columns import Columns, Ids, Mask, places
from matching_pipeline.matches.kernel.differences import TOLERANCE, among, compare, pair_keys
from matching_pipeline.matches.kernel.pairs import Pairs
from matching_pipeline.matches.match_table import Figures, new_ids

_FIELDS = {
    **{"project": UUID, "product": UUID, "similarity": FLOAT},
    **{"project_image": UUID, "product_image": UUID, "rank": INTEGER},
}


@dataclass(frozen=True)
class ProjectRows(Columns):
    """Whole lists are sorted by project and rank."""

    project: Ids
    product: Ids
    similarity: NDArray[np.float64]
    project_image: Ids
    product_image: Ids
    rank: NDArray[np.integer[Any]]

    def of(self, projects: Ids) -> "ProjectRows":
        """Of these projects, one or more and sorted, as the rows are."""
        begin = np.searchsorted(self.project, projects[0])
        near = self.take(np.arange(begin, np.searchsorted(self.project, projects[-1], side="right")))
        return near.take(among(near.project, projects))

    def ranked(self) -> "ProjectRows":
        """With ranks as though the rows were whole lists."""
        return replace(self, rank=places(self.project) + 1)

    @property
    def keys(self) -> NDArray[np.bytes_]:
        return pair_keys(self.project, self.product)


def rows_of(pairs: Pairs) -> ProjectRows:
    """Of whole lists."""
    columns = pairs.left, pairs.right, pairs.similarity, pairs.left_image, pairs.right_image
    return ProjectRows(*columns, rank=pairs.ranks)


def pairs_of(rows: ProjectRows) -> Pairs:
    return Pairs(rows.project, rows.product, rows.similarity, rows.project_image, rows.product_image)


def stored_rows(
    connection: Connection, projects: Ids | None = None, first: object = None, before: object = None
) -> ProjectRows:
    """The lists that stand, of all projects, of those named, or of those from `first` on and before `before`."""
    parameters = {"project_ids": None if projects is None else Uuids(projects), "first": first, "before": before}
    rows = copy_out(connection, query("copy_project_rows"), parameters, _FIELDS)
    return ProjectRows(*(rows[name].astype(form.replace(">", "=")) for name, form in _FIELDS.items()))


@dataclass(frozen=True)
class Change:
    """What must be written."""

    upserts: ProjectRows
    new: Mask
    """which of the upserts are no row yet"""
    deletions: ProjectRows

    def without(self, projects: Ids) -> "Change":
        upserts = ~among(self.upserts.project, projects)
        deletions = ~among(self.deletions.project, projects)
        return Change(self.upserts.take(upserts), self.new[upserts], self.deletions.take(deletions))

    @property
    def projects(self) -> Ids:
        return np.unique(np.concatenate([self.upserts.project, self.deletions.project]))


def difference(wanted: ProjectRows, stored: ProjectRows) -> Change:
    """Of the whole lists of the same projects."""
    seen = compare(wanted.keys, stored.keys)
    standing, there = stored.take(seen.place), wanted.take(seen.found)
    differs = np.ones(len(wanted), dtype=np.bool_)
    differs[seen.found] = (
        (standing.rank != there.rank)
        | (standing.project_image != there.project_image)
        | (standing.product_image != there.product_image)
        | (np.abs(standing.similarity - there.similarity) >= TOLERANCE)
    )
    return Change(wanted.take(differs), ~seen.found[differs], stored.take(seen.left_over))


def put(connection: Connection, model: str, change: Change) -> Figures:
    """Writes the change, of whose upserts the evidence is held."""
    if len(change.deletions):
        connection.execute(query("begin_publishing"))
        connection.execute(query("delete_matches"), _parameters(change.deletions))
    if len(change.upserts):
        parameters = {"model": model, "new_ids": new_ids(len(change.upserts)), **_parameters(change.upserts)}
        connection.execute(query("publish_matches"), parameters)
    added = int(change.new.sum())
    return Figures(added=added, changed=len(change.upserts) - added, removed=len(change.deletions))


def held(connection: Connection, rows: ProjectRows) -> Mask:
    """Which of the rows have images and owners that stand, and do until we commit."""
    mask = np.ones(len(rows), dtype=np.bool_)
    if len(rows):
        mask[[row for (row,) in connection.execute(query("hold_evidence"), _parameters(rows))]] = False
    return mask


def _parameters(rows: ProjectRows) -> dict[str, Uuids | Floats | Integers]:
    return {
        "project_ids": Uuids(rows.project),
        "product_ids": Uuids(rows.product),
        "project_image_ids": Uuids(rows.project_image),
        "product_image_ids": Uuids(rows.product_image),
        "similarities": Floats(rows.similarity),
        "ranks": Integers(rows.rank),
    }
