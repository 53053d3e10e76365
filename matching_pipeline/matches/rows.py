"""The rows of `matches` of one matcher as columns, and the lists that they hold."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from matching_pipeline.db.arrays import FLOAT, INTEGER, UUID, Uuids
from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import query
from matching_pipeline.db.reader import read_columns
from matching_pipeline.matches.kernel.columns import Columns, Ids, Mask, Numbers, Ranks, concatenate, starts_of
from matching_pipeline.matches.kernel.differences import PairRows, pair_keys
from matching_pipeline.matches.kernel.pairs import Pairs
from matching_pipeline.matches.rule import Rule

NO_IDS: Ids = np.empty(0, dtype=UUID)
_FIELDS = {
    **{"left": UUID, "right": UUID, "similarity": FLOAT, "left_item": UUID, "right_item": UUID},
    **{"left_rank": INTEGER, "right_rank": INTEGER},
}


@dataclass(frozen=True)
class MatchRows(PairRows):
    """A rank of 0 means that there is none. Within one source the left entity has the lower id."""

    left: Ids
    right: Ids
    similarity: Numbers
    left_item: Ids
    right_item: Ids
    left_rank: Ranks
    right_rank: Ranks


@dataclass(frozen=True)
class Listings(Columns):
    """Entities in the lists of others, in any order. One row holds one or two listings."""

    owner: Ids
    listed: Ids
    similarity: Numbers
    owner_item: Ids
    listed_item: Ids
    rank: Ranks
    by_left: Mask
    """whether the owner is the left entity of the row"""

    @property
    def pairs(self) -> Pairs:
        """The owners on the left side, in any order."""
        return Pairs(self.owner, self.listed, self.similarity, self.owner_item, self.listed_item)


NO_LISTINGS = Listings(
    *(NO_IDS, NO_IDS, np.empty(0), NO_IDS, NO_IDS), np.empty(0, dtype=np.intp), np.empty(0, dtype=np.bool_)
)


def stored_rows(connection: Connection, rule: Rule, entities: Mapping[str, Ids]) -> MatchRows:
    """The rows in which any of these entities, given by source, is on the side of its source."""
    left, right = entities.get(rule.left, NO_IDS), entities.get(rule.right, NO_IDS)
    parameters = {"matcher": rule.matcher, "left_ids": Uuids(left), "right_ids": Uuids(right)}
    return MatchRows(**read_columns(connection, query("pairs_of"), parameters, _FIELDS))


def listings_in(rows: MatchRows, rule: Rule) -> Listings:
    """The listings of the lists that the matcher keeps."""
    of_left = Listings(
        *(rows.left, rows.right, rows.similarity, rows.left_item, rows.right_item, rows.left_rank),
        by_left=np.ones(len(rows), dtype=np.bool_),
    )
    of_right = Listings(
        *(rows.right, rows.left, rows.similarity, rows.right_item, rows.left_item, rows.right_rank),
        by_left=np.zeros(len(rows), dtype=np.bool_),
    )
    kept = [of_left, of_right] if rule.both else [of_left]
    return concatenate([each.take(each.rank > 0) for each in kept])


def listings_of(pairs: Pairs, rule: Rule, source: str) -> Listings:
    """The listings of whole lists of entities of the source."""
    by_left = rule.are_left(source, pairs.left, pairs.right)
    columns = pairs.left, pairs.right, pairs.similarity, pairs.left_image, pairs.right_image
    return Listings(*columns, rank=pairs.ranks, by_left=by_left)


def owned_by(listings: Listings, rule: Rule, source: str) -> Listings:
    """The listings of the entities of the source."""
    return listings if rule.is_within else listings.take(listings.by_left == (source == rule.left))


def rows_from(listings: Listings) -> MatchRows:
    """The rows that the listings make, sorted by (left, right). If both entities list the pair, the first listing
    gives score and items."""
    forth = listings.by_left
    left, right = _either(forth, listings.owner, listings.listed)
    left_item, right_item = _either(forth, listings.owner_item, listings.listed_item)
    keys = pair_keys(left, right)
    order = np.argsort(keys, kind="stable")
    starts = starts_of(keys[order])
    left_rank, right_rank = (np.where(side, listings.rank, 0)[order] for side in (forth, ~forth))
    if len(starts):
        left_rank, right_rank = (np.maximum.reduceat(ranks, starts) for ranks in (left_rank, right_rank))
    first = order[starts]
    items = left_item[first], right_item[first]
    return MatchRows(left[first], right[first], listings.similarity[first], *items, left_rank, right_rank)


def _either(forth: Mask, owner: Ids, listed: Ids) -> tuple[Ids, Ids]:
    return np.where(forth, owner, listed), np.where(forth, listed, owner)
