"""The pairs of some entities of a matcher, by the rows of this moment."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from uuid import UUID

import numpy as np

from matching_pipeline.db.arrays import Uuids
from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import query
from matching_pipeline.matches.holding import held_near
from matching_pipeline.matches.image_sets import FEW_SOUGHT, Members, load, stream, stream_near
from matching_pipeline.matches.kernel.columns import Ids, as_uuids, concatenate
from matching_pipeline.matches.kernel.images import ImageSet
from matching_pipeline.matches.kernel.pairs import Pairs
from matching_pipeline.matches.kernel.policy import Policy
from matching_pipeline.matches.kernel.search import best_pairs, pairs_above
from matching_pipeline.matches.rule import Block, Rule


def match_policy(connection: Connection, matcher: str) -> Policy:
    row = connection.execute(query("match_policy"), {"matcher": matcher}).fetchone()
    assert row is not None
    return Policy(*row)


class Scoring:
    """Settings and models are read once. So it serves one transaction, or a time in which no list is written."""

    def __init__(self, connection: Connection, rule: Rule, part_images: int) -> None:
        self._connection, self._rule, self._part_images = connection, rule, part_images
        self.policy = match_policy(connection, rule.matcher)
        self._models = {source: self._model(source) for source in rule.sources}
        self.model = self._models[rule.left]
        """empty until the first item was embedded"""

    def in_blocks(self, source: str, ids: Collection[UUID]) -> Iterator[tuple[Members, ImageSet]]:
        """Those of the entities that can match, block by block."""
        blocks: dict[Block, list[UUID]] = defaultdict(list)
        if ids:
            parameters = {"source": source, "ids": list(ids)}
            for id, properties in self._connection.execute(query("properties_of"), parameters).fetchall():
                if (block := self._rule.block_of(properties)) is not None:
                    blocks[block].append(id)
        for block, members in blocks.items():
            of = self.members(source, block)
            yield of, load(self._connection, of, members)

    def members(self, source: str, block: Block, first: str | None = None, before: str | None = None) -> Members:
        return Members(source, self._models[source], block, first, before)

    def opposite(self, members: Members) -> Members:
        return self.members(self._rule.other(members.source), self._rule.opposite_of(members.block))

    def best(self, here: ImageSet, others: Members) -> Pairs:
        """The list of every entity, of these others."""
        return best_pairs(here, self._near(here, others), self.policy)

    def best_of(self, here: ImageSet, others: ImageSet) -> Pairs:
        return best_pairs(here, [others], self.policy)

    def changed(self, members: Members, here: ImageSet) -> tuple[Pairs | None, Pairs | None]:
        """The lists of these entities, if they keep any; and their pairs that may enter the lists of others, if
        these keep any. Others are read once."""
        rule, others = self._rule, self.opposite(members)
        keep, others_keep = members.source in rule.keepers, others.source in rule.keepers
        few = len(here.image_ids) <= FEW_SOUGHT
        floors = self._floors(others.source) if others_keep and not few else {}
        entering: list[Pairs] = []

        def seen(parts: Iterable[ImageSet]) -> Iterator[ImageSet]:
            for part in parts:
                entering.append(pairs_above(part, here, self.policy, floors))
                yield part

        parts = self._near(here, others, floored=not keep)
        if not others_keep:
            return best_pairs(here, parts, self.policy), None
        own = None
        if keep:
            own = best_pairs(here, seen(parts), self.policy)
        else:
            for _ in seen(parts):
                pass
        pairs = concatenate(entering)
        if few:
            floors = self._floors(others.source, np.unique(pairs.left))
            pairs = pairs.take(pairs.similarity >= np.array([floors.get(each, -1) for each in as_uuids(pairs.left)]))
        return own, pairs

    def _near(self, here: ImageSet, others: Members, floored: bool = False) -> Iterator[ImageSet]:
        """The others that may match one of these, or with `floored` whose lists may take one, and some more."""
        if len(here.image_ids) > FEW_SOUGHT:
            return stream(self._connection, others, self._part_images)
        held = held_near(self._connection, others, here, self.policy, self._part_images)
        if held is not None:
            return iter([held])
        rule = self._rule
        floors = (rule.matcher, others.source == rule.left, others.source == rule.right) if floored else None
        return stream_near(self._connection, others, here, self.policy, self._part_images, floors)

    def _floors(self, source: str, owners: Ids | None = None) -> dict[UUID, float]:
        """The last score of each list that is full, of all entities of the source or of those named."""
        rule = self._rule
        parameters = {
            **{"matcher": rule.matcher, "limit": self.policy.limit},
            **{"are_left": source == rule.left, "are_right": source == rule.right},
            "ids": None if owners is None else Uuids(owners),
        }
        return dict(self._connection.execute(query("full_list_floors"), parameters).fetchall())

    def _model(self, source: str) -> str:
        row = self._connection.execute(query("source_model"), {"source": source}).fetchone()
        return (row and row[0]) or ""
