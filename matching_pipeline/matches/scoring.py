"""The pairs of some entities of a matcher, by the rows of this moment."""

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import replace
from itertools import count
from typing import Any
from uuid import UUID

import numpy as np

from matching_pipeline.db import arrays
from matching_pipeline.db.arrays import Uuids
from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import query
from matching_pipeline.db.reader import read_columns
from matching_pipeline.matches.holding import held_near
from matching_pipeline.matches.image_sets import FEW_SOUGHT, Members, load, load_by_block, only, stream, stream_near
from matching_pipeline.matches.kernel.columns import Ids, Numbers, as_uuids, concatenate, places
from matching_pipeline.matches.kernel.images import ImageSet
from matching_pipeline.matches.kernel.lists import best_first
from matching_pipeline.matches.kernel.pairs import NO_PAIRS, Pairs
from matching_pipeline.matches.kernel.policy import Policy
from matching_pipeline.matches.kernel.search import best_pairs, pairs_above
from matching_pipeline.matches.restrictions import allowed, by_left_item
from matching_pipeline.matches.rows import NO_IDS
from matching_pipeline.matches.rule import Block, Rule

_FLOORS = {"owner": arrays.UUID, "floor": arrays.FLOAT}


def match_policy(connection: Connection, matcher: str, model: str | None = None) -> Policy:
    """The policy with the settings of this model, or of the active one."""
    return Policy(*_state(connection, matcher, model)[:3])


def _state(connection: Connection, matcher: str, model: str | None) -> tuple[Any, ...]:
    row = connection.execute(query("matcher_state"), {"matcher": matcher, "model": model}).fetchone()
    assert row is not None
    return row


class Scoring:
    """Settings and models are read once. So it serves one transaction, or a time in which no list is written."""

    def __init__(self, connection: Connection, rule: Rule, part_images: int, model: str | None = None) -> None:
        """Scores with this model, or with the active one."""
        self._connection, self._rule, self._part_images = connection, rule, part_images
        *policy, left_model, right_model, modality = _state(connection, rule.matcher, model)
        self.policy = Policy(*policy)
        self._has_pictures, self._has_texts = modality == "image", modality == "text"
        self._models = {rule.right: model or right_model or "", rule.left: model or left_model or ""}
        self.model = self._models[rule.left]
        """empty until the first item was embedded"""

    @property
    def sources(self) -> tuple[str, ...]:
        return self._rule.sources

    def in_blocks(self, source: str, ids: Collection[UUID]) -> Iterator[tuple[Members, ImageSet]]:
        """The entities that can match, block by block."""
        if ids:
            blocks = load_by_block(self._connection, self.members(source), ids, self._rule.block_of)
            for block, images in blocks.items():
                yield self.members(source, block), images

    def members(self, source: str, block: Block = (), first: str | None = None, before: str | None = None) -> Members:
        return Members(source, self._models[source], block, self._rule.never_same, first, before, self._has_texts)

    def opposite(self, members: Members) -> Members:
        return self.members(self._rule.other(members.source), self._rule.opposite_of(members.block))

    def best(self, source: str, here: ImageSet, others: Members) -> Pairs:
        """The list of every entity, with these others in it."""
        return self._lists(source, here, lambda: self._near(here, others))

    def best_of(self, source: str, here: ImageSet, others: ImageSet) -> Pairs:
        return self._lists(source, here, lambda: [others])

    def top(self, source: str, here: ImageSet, others: ImageSet, policy: Policy) -> Pairs:
        """The list of every entity with another policy. The images need not be stored."""
        return self._found(source, here, lambda: [others], policy)

    def changed(self, members: Members, here: ImageSet) -> tuple[Pairs | None, Pairs | None]:
        """The lists of these entities, if they keep any; and their pairs that may enter the lists of others, if
        these keep any. Others are read once, as a rule."""
        rule, others = self._rule, self.opposite(members)
        keep, others_keep = members.source in rule.keepers, others.source in rule.keepers
        few = len(here.image_ids) <= FEW_SOUGHT
        if few and keep and others_keep and not self._has_pictures:
            return self._both_ways(here, others)
        full, lowest = self._floors(others.source) if others_keep and not few else (NO_IDS, np.empty(0))
        floors = dict(zip(as_uuids(full), lowest.tolist(), strict=True))
        entering: list[Pairs] = [NO_PAIRS]
        passes = count()

        def parts() -> Iterator[ImageSet]:
            is_first = next(passes) == 0
            for part in self._near(here, others, floored=not keep):
                if is_first and others_keep:
                    entering.append(pairs_above(part, here, self.policy, floors))
                yield part

        own = self._lists(members.source, here, parts) if keep else None
        if not keep:
            deque(parts(), maxlen=0)
        if not others_keep:
            return own, None
        pairs = concatenate(entering)
        if few:
            pairs = self._entering(others.source, pairs)
        if rule.restricts:
            pairs = pairs.take(allowed(self._connection, rule, others.source, pairs))
        return own, self._proven(others.source, pairs)

    def _both_ways(self, here: ImageSet, others: Members) -> tuple[Pairs, Pairs]:
        """Takes both results from one search, which is right for entities with one item."""
        pairs = concatenate(
            [NO_PAIRS, *(pairs_above(part, here, self.policy, {}) for part in self._near(here, others))]
        )
        if self._rule.restricts:
            pairs = pairs.take(allowed(self._connection, self._rule, others.source, pairs))
        return best_first(pairs.turned, self.policy.limit), self._entering(others.source, pairs)

    def _entering(self, source: str, pairs: Pairs) -> Pairs:
        """Those of the pairs that reach the last scores of full lists."""
        full, floors = self._floors(source, np.unique(pairs.left))
        floor_of = np.append(floors, -1)[np.where(np.isin(pairs.left, full), np.searchsorted(full, pairs.left), -1)]
        return pairs.take(pairs.similarity >= floor_of)

    def _lists(self, source: str, here: ImageSet, parts: Callable[[], Iterable[ImageSet]]) -> Pairs:
        return self._proven(source, self._found(source, here, parts, self.policy))

    def _found(self, source: str, here: ImageSet, parts: Callable[[], Iterable[ImageSet]], policy: Policy) -> Pairs:
        """The list of every entity. If pairs that must not match took places, it searches further."""
        if not self._rule.restricts:
            return best_pairs(here, parts(), policy)
        most, done, short = policy.limit + 1, list[Pairs](), here.entities
        while not done or len(short):
            found = best_pairs(only(here, short) if done else here, parts(), replace(policy, limit=most))
            lists = found.take(allowed(self._connection, self._rule, source, found))
            lists = lists.take(places(lists.left) < policy.limit)
            full, filled = (
                pairs.left[places(pairs.left) + 1 == length]
                for pairs, length in ((found, most), (lists, policy.limit))
            )
            short, most = np.setdiff1d(full, filled), 4 * most
            done.append(lists.take(~np.isin(lists.left, short)))
        pairs = concatenate(done)
        return pairs.take(np.argsort(pairs.left, kind="stable"))

    def _proven(self, source: str, pairs: Pairs) -> Pairs:
        """Gives each pair the same items, no matter which of the two entities keeps the list."""
        by_right = ~self._rule.are_left(source, pairs.left, pairs.right)
        if not (self._rule.both and self._has_pictures and by_right.any()):
            return pairs
        turned, other = pairs.take(by_right), self._rule.other(source)
        owners, listed = (
            load(self._connection, self.members(of), as_uuids(np.unique(ids)))
            for of, ids in ((source, turned.left), (other, turned.right))
        )
        proven = by_left_item(turned, owners, listed, self.policy.attribute_weight)
        left_image, right_image = pairs.left_image.copy(), pairs.right_image.copy()
        left_image[by_right], right_image[by_right] = proven.left_image, proven.right_image
        return replace(pairs, left_image=left_image, right_image=right_image)

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

    def _floors(self, source: str, owners: Ids | None = None) -> tuple[Ids, Numbers]:
        """The last score of each list that is full, of all entities of the source or of those named; by owner."""
        rule = self._rule
        parameters: dict[str, Any] = {
            **{"matcher": rule.matcher, "limit": self.policy.limit},
            **{"are_left": source == rule.left, "are_right": source == rule.right},
        }
        if owners is None:
            columns = read_columns(self._connection, query("floors_of_lists"), parameters, _FLOORS)
        else:
            parameters["ids"] = Uuids(owners)
            columns = read_columns(self._connection, query("floors_of"), parameters, _FLOORS)
        order = np.argsort(columns["owner"])
        return columns["owner"][order], columns["floor"][order]
