"""The pairs that must not match, and the items that prove a pair."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import psycopg

from matching_pipeline.db.arrays import UUID, Uuids
from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import query
from matching_pipeline.db.reader import read_columns
from matching_pipeline.db.transactions import give_way
from matching_pipeline.errors import SourceUnreadable
from matching_pipeline.matches.kernel.columns import Ids, Mask, Numbers, Rows, places, starts_of
from matching_pipeline.matches.kernel.differences import pair_keys
from matching_pipeline.matches.kernel.images import ImageSet, Scorer
from matching_pipeline.matches.kernel.pairs import Pairs
from matching_pipeline.matches.rule import Rule
from matching_pipeline.sources.reading import SOURCE_FAULTS

PAIRS_AT_ONCE = 10_000


def allowed(connection: Connection, rule: Rule, source: str, pairs: Pairs) -> Mask:
    """Which of the pairs may match. Entities of `source` list the others. Raises SourceUnreadable."""
    by_left = rule.are_left(source, pairs.left, pairs.right)
    left, right = np.where(by_left, pairs.left, pairs.right), np.where(by_left, pairs.right, pairs.left)
    may: Mask = left != right if rule.is_within else np.ones(len(pairs), dtype=np.bool_)
    if rule.never_same:
        may &= _values(connection, rule.left, rule.never_same, left) != _values(
            connection, rule.right, rule.never_same, right
        )
    if rule.has_exceptions and len(pairs):
        with _exceptions_named(rule.matcher):
            parameters = {"matcher": rule.matcher, "left_ids": _unique(left), "right_ids": _unique(right)}
            excepted = read_columns(connection, query("excepted_pairs"), parameters, {"left": UUID, "right": UUID})
        may &= ~np.isin(pair_keys(left, right), pair_keys(**excepted))
    return may


def look_again(connection: Connection, rule: Rule, entities: Ids) -> None:
    """Deletes the excepted pairs of these entities, whose lists are committed, and enqueues both sides.

    The trigger on the app's table does not see entities of a transaction that is open. Raises SourceUnreadable, and
    one of GAVE_WAY.
    """
    if rule.has_exceptions and len(entities):
        parameters = {"matcher": rule.matcher, "ids": _unique(entities)}
        with _exceptions_named(rule.matcher):
            give_way(connection, lambda: connection.execute(query("match_standing_exceptions"), parameters))


def by_left_item(pairs: Pairs, owners: ImageSet, listed: ImageSet, weight: float) -> Pairs:
    """The pairs of right entities that list left ones, with the items that the left entities' lists have.

    If scores are equal, the first left item proves the pair, then the first right item. A search takes the first item
    of the entity that keeps the list.
    """
    scorer, owner_items, listed_items = Scorer(owners, listed, weight), [], []
    for begin in range(0, len(pairs), PAIRS_AT_ONCE):
        part = pairs.take(slice(begin, begin + PAIRS_AT_ONCE))
        owner_rows, listed_rows = _best_rows(part, scorer)
        owner_items.append(owners.image_ids[owner_rows])
        listed_items.append(listed.image_ids[listed_rows])
    columns = pairs.left, pairs.right, pairs.similarity
    return Pairs(*columns, np.concatenate(owner_items), np.concatenate(listed_items))


def _best_rows(pairs: Pairs, scorer: Scorer) -> tuple[Rows, Rows]:
    """The rows of the items that prove each pair."""
    owners, listed = scorer.left, scorer.right
    owner, other = (np.searchsorted(of.entities, ids) for of, ids in ((owners, pairs.left), (listed, pairs.right)))
    count = owners.ends[owner] - owners.starts[owner]
    each = np.repeat(np.arange(len(pairs)), count * (listed.ends[other] - listed.starts[other]))
    # the items of the left entity, and for each of them those of the right one
    listed_place, owner_place = np.divmod(places(each), count[each])
    owner_rows, listed_rows = owners.starts[owner][each] + owner_place, listed.starts[other][each] + listed_place
    scores: Numbers = scorer.exact(owner_rows, listed_rows)
    best = np.flatnonzero(scores == np.maximum.reduceat(scores, starts_of(each))[each])
    first = best[starts_of(each[best])]
    return owner_rows[first], listed_rows[first]


def _values(connection: Connection, source: str, name: str, entities: Ids) -> Ids:
    """A digest of the value of each entity; empty if the entity is gone."""
    parameters = {"source": source, "name": name, "ids": _unique(entities)}
    columns = read_columns(connection, query("values_of"), parameters, {"id": UUID, "value": UUID})
    ids, values = columns["id"], np.append(columns["value"], np.zeros(1, dtype=UUID))
    found = np.searchsorted(ids, entities)
    there = np.isin(entities, ids)
    return np.where(there, values[np.where(there, found, 0)], np.zeros(1, dtype=UUID))


def _unique(ids: Ids) -> Uuids:
    return Uuids(np.unique(ids))


@contextmanager
def _exceptions_named(matcher: str) -> Iterator[None]:
    try:
        yield
    except psycopg.Error as error:
        if not (error.sqlstate or "").startswith(SOURCE_FAULTS):
            raise
        raise SourceUnreadable(
            f"the table of `except` of the matcher {matcher} cannot be read: {error.diag.message_primary}: correct "
            "the table or the declaration, then run `matching-pipeline attach`"
        ) from error
