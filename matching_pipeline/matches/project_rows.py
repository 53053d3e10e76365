"""The rows of `matches` that pair projects with products, as columns."""

from dataclasses import dataclass, replace

import numpy as np

from matching_pipeline.db.arrays import FLOAT, INTEGER, UUID, Uuids, parameters_from
from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import query
from matching_pipeline.db.reader import read_columns
from matching_pipeline.matches.kernel.columns import Ids, Mask, Numbers, Ranks, places
from matching_pipeline.matches.kernel.differences import Change, PairRows
from matching_pipeline.matches.kernel.pairs import Pairs
from matching_pipeline.matches.match_table import Figures, put

_FIELDS = {
    **{"project": UUID, "product": UUID, "similarity": FLOAT},
    **{"project_image": UUID, "product_image": UUID, "rank": INTEGER},
}


@dataclass(frozen=True)
class ProjectRows(PairRows):
    """Whole lists are sorted by project and rank."""

    project: Ids
    product: Ids
    similarity: Numbers
    project_image: Ids
    product_image: Ids
    rank: Ranks

    def of(self, projects: Ids) -> "ProjectRows":
        """The rows of these projects, one or more, which are sorted as the rows are."""
        begin = np.searchsorted(self.project, projects[0])
        near = self.take(np.arange(begin, np.searchsorted(self.project, projects[-1], side="right")))
        return near.take(np.isin(near.project, projects))

    def ranked(self) -> "ProjectRows":
        """With ranks as though the rows were whole lists."""
        return replace(self, rank=places(self.project) + 1)


def rows_of(pairs: Pairs) -> ProjectRows:
    """The rows of whole lists."""
    columns = pairs.left, pairs.right, pairs.similarity, pairs.left_image, pairs.right_image
    return ProjectRows(*columns, rank=pairs.ranks)


def pairs_of(rows: ProjectRows) -> Pairs:
    return Pairs(rows.project, rows.product, rows.similarity, rows.project_image, rows.product_image)


def stored_rows(
    connection: Connection, projects: Ids | None = None, first: object = None, before: object = None
) -> ProjectRows:
    """The stored lists of all projects, of those named, or of those from `first` on and before `before`."""
    parameters = {"project_ids": None if projects is None else Uuids(projects), "first": first, "before": before}
    return ProjectRows(**read_columns(connection, query("copy_project_rows"), parameters, _FIELDS))


def changed_projects(change: Change[ProjectRows]) -> Ids:
    return np.unique(np.concatenate([change.upserts.project, change.deletions.project]))


def without(change: Change[ProjectRows], projects: Ids) -> Change[ProjectRows]:
    upserts = ~np.isin(change.upserts.project, projects)
    deletions = ~np.isin(change.deletions.project, projects)
    return Change(change.upserts.take(upserts), change.new[upserts], change.deletions.take(deletions))


def put_rows(connection: Connection, model: str, change: Change[ProjectRows]) -> Figures:
    """Writes the change. Raises ForeignKeyViolation where the evidence of an upsert is gone."""
    return put(
        connection, change, delete=query("delete_project_pairs"), publish=query("publish_project_pairs"), model=model
    )


def hold_evidence(connection: Connection, rows: ProjectRows) -> Mask:
    """Which of the rows have images and entities that exist. Locks these until the transaction ends."""
    mask = np.ones(len(rows), dtype=np.bool_)
    if len(rows):
        gone = connection.execute(query("rows_without_evidence"), parameters_from(vars(rows)))
        mask[[row for (row,) in gone]] = False
    return mask
