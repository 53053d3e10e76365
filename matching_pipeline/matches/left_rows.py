"""The rows of `matches` of a matcher whose left entities keep lists, as columns."""

from dataclasses import dataclass, replace

import numpy as np

from matching_pipeline.db.arrays import FLOAT, INTEGER, UUID, Uuids
from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import query
from matching_pipeline.db.reader import read_columns
from matching_pipeline.matches.kernel.columns import Ids, Numbers, Ranks, places
from matching_pipeline.matches.kernel.differences import Change, PairRows
from matching_pipeline.matches.kernel.pairs import Pairs
from matching_pipeline.matches.match_table import Figures, Sides, put

_FIELDS = {
    **{"left": UUID, "right": UUID, "similarity": FLOAT},
    **{"left_item": UUID, "right_item": UUID, "rank": INTEGER},
}


@dataclass(frozen=True)
class LeftRows(PairRows):
    """Whole lists are sorted by left entity and rank."""

    left: Ids
    right: Ids
    similarity: Numbers
    left_item: Ids
    right_item: Ids
    rank: Ranks

    def of(self, entities: Ids) -> "LeftRows":
        """The rows of these left entities, one or more, which are sorted as the rows are."""
        begin = np.searchsorted(self.left, entities[0])
        near = self.take(np.arange(begin, np.searchsorted(self.left, entities[-1], side="right")))
        return near.take(np.isin(near.left, entities))

    def ranked(self) -> "LeftRows":
        """With ranks as though the rows were whole lists."""
        return replace(self, rank=places(self.left) + 1)


def rows_of(pairs: Pairs) -> LeftRows:
    """The rows of whole lists."""
    columns = pairs.left, pairs.right, pairs.similarity, pairs.left_image, pairs.right_image
    return LeftRows(*columns, rank=pairs.ranks)


def pairs_of(rows: LeftRows) -> Pairs:
    return Pairs(rows.left, rows.right, rows.similarity, rows.left_item, rows.right_item)


def stored_rows(
    connection: Connection, matcher: str, entities: Ids | None = None, first: object = None, before: object = None
) -> LeftRows:
    """The stored lists of all left entities, of those named, or of those from `first` on and before `before`."""
    parameters = {
        "matcher": matcher,
        "left_ids": None if entities is None else Uuids(entities),
        **{"first": first, "before": before},
    }
    return LeftRows(**read_columns(connection, query("copy_left_rows"), parameters, _FIELDS))


def changed_entities(change: Change[LeftRows]) -> Ids:
    return np.unique(np.concatenate([change.upserts.left, change.deletions.left]))


def without(change: Change[LeftRows], entities: Ids) -> Change[LeftRows]:
    upserts = ~np.isin(change.upserts.left, entities)
    deletions = ~np.isin(change.deletions.left, entities)
    return Change(change.upserts.take(upserts), change.new[upserts], change.deletions.take(deletions))


def put_rows(connection: Connection, sides: Sides, model: str, change: Change[LeftRows]) -> Figures:
    """Writes the change. The caller has locked the entities of the upserts."""
    return put(connection, sides, change, publish=query("publish_left_pairs"), model=model)
