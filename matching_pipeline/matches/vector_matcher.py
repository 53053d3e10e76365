"""Lists of the entities of one source over each other, by vectors: their maintenance and their rebuild.

Each entity that can match has a list: its best entities of the opposite block. A pair is one row of `matches`, with
its rank in either entity's list, as long as it has one.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from uuid import UUID

import numpy as np

from matching_pipeline.db.arrays import Uuids
from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import query
from matching_pipeline.db.transactions import GAVE_WAY, give_way
from matching_pipeline.matches import rebuilds
from matching_pipeline.matches.image_sets import Block, load_block, load_candidates
from matching_pipeline.matches.kernel.columns import Ids, as_ids, as_uuids, concatenate
from matching_pipeline.matches.kernel.differences import Change, difference
from matching_pipeline.matches.kernel.images import ImageSet
from matching_pipeline.matches.kernel.lists import Lists, lists_from, merge, pairs_from
from matching_pipeline.matches.kernel.policy import Policy
from matching_pipeline.matches.kernel.search import best_pairs, pairs_above
from matching_pipeline.matches.match_table import Figures, Sides, match_policy, missing_entities
from matching_pipeline.matches.pair_rows import (
    Listings,
    MutualRows,
    listings,
    listings_of,
    lists_in,
    paired,
    put_rows,
    stored_rows,
)
from matching_pipeline.matches.rebuilds import Shard

ROWS_AT_ONCE = 2000
"""Rows that a rebuild writes in one transaction."""
SHARD_ENTITIES = 20_000
"""Entities of whole blocks in a shard."""

Same = Mapping[str, str]
"""What both sides of a pair have in common."""


@dataclass(frozen=True)
class VectorMatcher:
    """The entities of one source match each other where the properties `same` are equal, `opposite` opposed."""

    sides: Sides
    same: Sequence[str] = ()
    opposite: Mapping[str, tuple[str, str]] | None = None
    """by property, the two values of which one side has one and the other side the other"""

    @property
    def name(self) -> str:
        return self.sides.matcher

    @property
    def source(self) -> str:
        return self.sides.left

    def update(self, connection: Connection, changed: set[UUID]) -> Figures:
        """Maintains the lists after these entities changed, in the caller's transaction, which holds the lists."""
        if not changed:
            return Figures()
        policy = match_policy(connection, self.name)
        lists: Lists = {entity: [] for entity in changed}
        scored: Lists = {}
        for here, candidates in self._with_candidates(connection, changed, policy):
            lists |= lists_from(best_pairs(here, [candidates], policy))
            scored |= lists_from(pairs_above(candidates, here, policy, {}))
        listing_changed = as_uuids(listings(self._stored(connection, as_ids(changed))).owner)
        touched = (scored.keys() | set(listing_changed)) - changed
        stored = self._stored(connection, as_ids(touched | changed))
        stored_lists = lists_in(listings(stored))
        merged = {
            entity: merge(stored_lists.get(entity, []), changed, scored.get(entity, ()), policy) for entity in touched
        }
        lists |= {entity: pairs or [] for entity, pairs in merged.items()}
        recompute = {entity for entity, pairs in merged.items() if pairs is None}
        for here, candidates in self._with_candidates(connection, recompute, policy):
            lists |= lists_from(best_pairs(here, [candidates], policy))
        others = listings(stored)
        others = others.take(~np.isin(others.owner, as_ids(lists)))
        wanted = paired(concatenate([listings_of(pairs_from(lists)), others]))
        figures = self._write(connection, difference(wanted, stored))
        figures.lists, figures.unchanged = len(lists), len(wanted) - figures.added - figures.changed
        return figures

    def plan(self, connection: Connection, rebuild: int) -> None:
        """Divides a rebuild into groups of whole blocks."""
        parameters = {"rebuild": rebuild, "matcher": self.name, "size": SHARD_ENTITIES}
        connection.execute(query("plan_blocks"), parameters)

    def rebuild(self, connection: Connection, on_progress: rebuilds.OnProgress = lambda done, total: None) -> Figures:
        """Recomputes every list, block by block, and writes the difference."""
        return rebuilds.run_all(connection, self.name, self.plan, self.rebuild_shard, on_progress)

    def rebuild_shard(self, connection: Connection, shard: Shard, on_part: rebuilds.OnPart) -> Figures:
        """Leaves blocks whose rows the app has locked for last. Raises one of GAVE_WAY where they still are locked,
        when all other blocks are done."""
        figures, locked = Figures(), []
        for same in shard.blocks or ():
            try:
                figures += self.rebuild_block(connection, same)
                on_part(figures.lists)
            except GAVE_WAY:
                locked.append(same)
        for same in locked:
            figures += self.rebuild_block(connection, same)
            on_part(figures.lists)
        return figures

    def rebuild_block(self, connection: Connection, same: Same | None) -> Figures:
        """In many short transactions. The caller has taken or shares the lists.

        The entities with these values match among themselves only. An entity of elsewhere that lists one of them
        loses that pair and is matched again.
        """
        entities, wanted = self.wanted_listings(connection, same)
        rows = paired(wanted)
        change, figures = difference(rows, self._stored(connection, entities)), Figures(lists=len(entities))
        for part in change.parts(ROWS_AT_ONCE):
            figures += give_way(connection, partial(self._write, connection, part, entities))
        figures.unchanged = len(rows) - figures.added - figures.changed
        return figures

    def wanted_listings(self, connection: Connection, same: Same | None) -> tuple[Ids, Listings]:
        """The entities with these values and all their listings. For None, the entities that have pairs but cannot
        match, and no listings."""
        if same is None:
            lone = connection.execute(query("lone_entities_with_pairs"), {"matcher": self.name})
            entities = as_ids(sorted(entity for (entity,) in lone))
            none = np.empty(0, dtype=entities.dtype)
            return entities, Listings(none, none, np.empty(0), np.empty(0, dtype=np.intp))
        policy = match_policy(connection, self.name)
        blocks = [{**same, **opposed} for opposed in self._opposed()]
        sets = [load_block(connection, self.source, block) for block in blocks]
        # the opposite of a block stands at the other end
        pairs = [best_pairs(here, [there], policy) for here, there in zip(sets, reversed(sets), strict=True)]
        entities = np.sort(np.concatenate([each.entities for each in sets]))
        return entities, concatenate([listings_of(each) for each in pairs])

    def block_of(self, properties: Mapping[str, str | None]) -> Block | None:
        """The block of an entity with these properties; None where it can match no other."""
        block = {name: properties.get(name) for name in (*self.same, *(self.opposite or ()))}
        opposed = all(block[name] in values for name, values in (self.opposite or {}).items())
        if not opposed or None in block.values():
            return None
        return {name: value for name, value in block.items() if value is not None}

    def _opposed(self) -> list[dict[str, str]]:
        """All combinations of opposed values. Read backwards, they are the opposites of these."""
        opposite = self.opposite or {}
        return [dict(zip(opposite, values, strict=True)) for values in product(*opposite.values())]

    def _opposite(self, block: Block) -> Block:
        swapped = {
            name: second if block[name] == first else first for name, (first, second) in (self.opposite or {}).items()
        }
        return {**block, **swapped}

    def _stored(self, connection: Connection, entities: Ids) -> MutualRows:
        return stored_rows(connection, self.name, entities)

    def _with_candidates(
        self, connection: Connection, entities: Collection[UUID], policy: Policy
    ) -> Iterator[tuple[ImageSet, ImageSet]]:
        """Those of the entities that can match, block by block, each block with the entities that it may list."""
        blocks: dict[tuple[tuple[str, str], ...], list[UUID]] = defaultdict(list)
        if entities:
            parameters = {"source": self.source, "ids": list(entities)}
            for id, properties in connection.execute(query("properties_of"), parameters):
                if block := self.block_of(properties):
                    blocks[tuple(block.items())].append(id)
        for values, members in blocks.items():
            here = load_block(connection, self.source, dict(values), members)
            opposite = self._opposite(dict(values))
            yield here, load_candidates(connection, self.source, opposite, here, policy.threshold)

    def _write(self, connection: Connection, change: Change[MutualRows], entities: Ids | None = None) -> Figures:
        """Writes the change without the pairs of entities that were deleted since they were read.

        The other entity of such a pair is matched again. So is, where `entities` are given, any other entity that
        loses a pair.
        """
        bereaved = [_outside(change.deletions, entities)] if entities is not None else []
        upserts = change.upserts
        gone = missing_entities(connection, self.source, np.concatenate([upserts.left, upserts.right]))
        if len(gone):
            without_left, without_right = np.isin(upserts.left, gone), np.isin(upserts.right, gone)
            bereaved += [upserts.right[without_left & ~without_right], upserts.left[without_right & ~without_left]]
            whole = ~without_left & ~without_right
            change = Change(upserts.take(whole), change.new[whole], change.deletions)
        figures = put_rows(connection, self.sides, change)
        if sum(map(len, bereaved)):
            ids = Uuids(np.unique(np.concatenate(bereaved)))
            connection.execute(query("match_again"), {"matcher": self.name, "source": self.source, "ids": ids})
        return figures


def _outside(rows: MutualRows, entities: Ids) -> Ids:
    """The entities that list another in these rows and are none of `entities`."""
    listing = listings(rows).owner
    return listing[~np.isin(listing, entities)]
