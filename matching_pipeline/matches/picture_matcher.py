"""Lists of the entities of one source over the pictures of another: their maintenance and their rebuild."""

from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from uuid import UUID

import numpy as np

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
    stream_left_near,
)
from matching_pipeline.matches.kernel.columns import Ids, Mask, as_ids, as_uuids, concatenate
from matching_pipeline.matches.kernel.differences import Change, difference
from matching_pipeline.matches.kernel.images import ImageSet
from matching_pipeline.matches.kernel.lists import Lists, lists_from, merge, pairs_from
from matching_pipeline.matches.kernel.pairs import Pairs
from matching_pipeline.matches.kernel.policy import Policy
from matching_pipeline.matches.kernel.search import best_pairs, pairs_above
from matching_pipeline.matches.left_rows import (
    LeftRows,
    changed_entities,
    pairs_of,
    put_rows,
    rows_of,
    stored_rows,
    without,
)
from matching_pipeline.matches.locks import ListsLock
from matching_pipeline.matches.match_table import Figures, Sides, match_policy, missing_entities, missing_items
from matching_pipeline.matches.rebuilds import Shard

LISTS_AT_ONCE = 1000
"""Lists that a rebuild writes in one transaction."""
SHARD_ENTITIES = 10_000
"""Left entities in a shard. Each shard loads the images of all right entities."""


@dataclass(frozen=True)
class Rules:
    """All inputs of a list except the images."""

    policy: Policy
    model: str
    """empty until the first image was analysed"""


@dataclass(frozen=True)
class PictureMatcher:
    """Each entity of the left source with pictures keeps a list of entities of the right source."""

    sides: Sides
    part_images: int = PART_IMAGES
    """how many images of the other side are held at once"""

    @property
    def name(self) -> str:
        return self.sides.matcher

    def update(self, connection: Connection, left: Collection[UUID], right: Collection[UUID]) -> Figures:
        """Maintains the lists after these entities changed, in the caller's transaction, which holds the lists."""
        rules = self._rules(connection)
        lists, stored = self._merge_right(connection, rules, set(right)) if right else ({}, {})
        lists |= self._recompute(connection, rules, set(left) | (stored.keys() - lists.keys()))
        wanted, there = rows_of(pairs_from(lists)), stored_rows(connection, self.name, as_ids(sorted(lists)))
        figures = self._write(connection, rules.model, difference(wanted, there))
        figures.lists, figures.unchanged = len(lists), len(wanted) - figures.added - figures.changed
        return figures

    def plan(self, connection: Connection, rebuild: int) -> None:
        """Divides a rebuild into ranges of left entities."""
        connection.execute(query("plan_ranges"), {"rebuild": rebuild, "matcher": self.name, "size": SHARD_ENTITIES})

    def rebuild(self, connection: Connection, on_progress: rebuilds.OnProgress = lambda done, total: None) -> Figures:
        """Recomputes every list, shard by shard, and writes the difference."""
        return rebuilds.run_all(connection, self.name, self.plan, self.rebuild_shard, on_progress)

    def rebuild_shard(self, connection: Connection, shard: Shard, on_part: rebuilds.OnPart) -> Figures:
        """Writes lists that differ in transactions of LISTS_AT_ONCE, two at a time."""
        within = {"first": shard.first_entity, "before": shard.before_entity}
        wanted, stored, count, rules = give_way(connection, partial(self.all_rows, connection, **within))
        changed, figures = changed_entities(difference(wanted, stored)), Figures(lists=count)
        parts = [changed[begin : begin + LISTS_AT_ONCE] for begin in range(0, len(changed), LISTS_AT_ONCE)]

        def write(session: Connection, entities: Ids) -> Figures:
            return give_way(session, partial(self._write_lists, session, rules.model, entities, wanted.of(entities)))

        lock = ListsLock(connection, self.name)
        with lock.sharing_sessions(len(parts)) as sessions, ThreadPoolExecutor(len(sessions)) as pool:
            for begin in range(0, len(parts), len(sessions)):
                on_part(count - len(changed) + begin * LISTS_AT_ONCE)
                for part_figures in pool.map(write, sessions, parts[begin : begin + len(sessions)]):
                    figures += part_figures
        on_part(count)
        figures.unchanged = len(wanted) - figures.added - figures.changed
        return figures

    def rebuild_at_once(self, connection: Connection) -> Figures:
        """The caller's transaction holds the lists and changes the model.

        Readers see all old pairs or all new pairs.
        """
        wanted, stored, count, rules = self.all_rows(connection)
        there = self._hold(connection, wanted)
        self._match_again(connection, np.unique(wanted.left[~there]))
        wanted = wanted.take(there).ranked()
        figures = put_rows(connection, self.sides, rules.model, difference(wanted, stored))
        # Pairs with the same score under both models were not written; this updates their model.
        connection.execute(query("name_model_of_matches"), {"matcher": self.name, "model": rules.model})
        figures.lists, figures.unchanged = count, len(wanted) - figures.added - figures.changed
        return figures

    def all_rows(
        self, connection: Connection, first: UUID | None = None, before: UUID | None = None
    ) -> tuple[LeftRows, LeftRows, int, Rules]:
        """The wanted and the stored rows of a range of left entities, and the rules.

        The number between them is the number of entities that have wanted or stored rows.
        """
        rules = self._rules(connection)
        left = load_image_set(connection, self.sides.left, rules.model, first=first, before=before)
        stored = stored_rows(connection, self.name, first=first, before=before)
        wanted = rows_of(best_pairs(left, self._all_right(connection, rules), rules.policy))
        return wanted, stored, len(np.union1d(left.entities, stored.left)), rules

    def _rules(self, connection: Connection) -> Rules:
        model = connection.execute(query("active_image_model")).fetchone()
        return Rules(match_policy(connection, self.name), model[0] if model else "")

    def _all_right(self, connection: Connection, rules: Rules) -> Iterator[ImageSet]:
        return stream_image_sets(connection, self.sides.right, rules.model, self.part_images)

    def _merge_right(self, connection: Connection, rules: Rules, changed: set[UUID]) -> tuple[Lists, Lists]:
        """The merged lists, and the stored lists of all left entities that the changed right ones touch.

        A list that is stored and not merged must be recomputed.
        """
        parameters = {"matcher": self.name, "right_ids": list(changed)}
        stored: Lists = {left: [] for (left,) in connection.execute(query("left_of_right"), parameters)}
        right = load_image_set(connection, self.sides.right, rules.model, changed)
        scored = lists_from(self._scored(connection, rules, right))
        stored |= {left: [] for left in scored}
        stored |= lists_from(pairs_of(stored_rows(connection, self.name, as_ids(sorted(stored)))))
        merged = {left: merge(pairs, changed, scored.get(left, ()), rules.policy) for left, pairs in stored.items()}
        return {left: pairs for left, pairs in merged.items() if pairs is not None}, stored

    def _scored(self, connection: Connection, rules: Rules, right: ImageSet) -> Pairs:
        """The pairs that may enter a list."""
        policy = rules.policy
        if len(right.image_ids) > FEW_SOUGHT:
            floors = self._floors(connection, policy)
            parts = stream_image_sets(connection, self.sides.left, rules.model, self.part_images)
            return concatenate([pairs_above(left, right, policy, floors) for left in parts])
        parts = stream_left_near(connection, self.sides, rules.model, right, policy, self.part_images)
        pairs = concatenate([pairs_above(left, right, policy, {}) for left in parts])
        floors = self._floors(connection, policy, np.unique(pairs.left))
        return pairs.take(pairs.similarity >= np.array([floors.get(left, -1) for left in as_uuids(pairs.left)]))

    def _floors(self, connection: Connection, policy: Policy, left: Ids | None = None) -> dict[UUID, float]:
        """The last score of each list that is full, of all left entities or of those named."""
        named = None if left is None else Uuids(left)
        parameters = {"matcher": self.name, "limit": policy.limit, "left_ids": named}
        return dict(connection.execute(query("full_list_floors"), parameters).fetchall())

    def _recompute(self, connection: Connection, rules: Rules, left: set[UUID]) -> Lists:
        """The lists of these entities. An entity without images has an empty list."""
        if not left:
            return {}
        lists: Lists = {entity: [] for entity in left}
        images = load_image_set(connection, self.sides.left, rules.model, left)
        return lists | lists_from(best_pairs(images, self._all_right(connection, rules), rules.policy))

    def _write_lists(self, connection: Connection, model: str, entities: Ids, wanted: LeftRows) -> Figures:
        """Reads the stored lists again, as the app may have deleted some rows."""
        return self._write(connection, model, difference(wanted, stored_rows(connection, self.name, entities)))

    def _write(self, connection: Connection, model: str, change: Change[LeftRows]) -> Figures:
        """Writes the lists whose entities and items still exist, and enqueues the other entities."""
        gone = np.unique(change.upserts.left[~self._hold(connection, change.upserts)])
        if len(gone):
            self._match_again(connection, gone)
            change = without(change, gone)
        return put_rows(connection, self.sides, model, change)

    def _hold(self, connection: Connection, rows: LeftRows) -> Mask:
        """Which of the rows have entities and items that exist. Locks the entities until the transaction ends."""
        there: Mask = ~np.isin(rows.left, missing_entities(connection, self.sides.left, rows.left))
        there &= ~np.isin(rows.right, missing_entities(connection, self.sides.right, rows.right))
        there &= ~np.isin(rows.left_item, missing_items(connection, self.sides.left, rows.left_item))
        there &= ~np.isin(rows.right_item, missing_items(connection, self.sides.right, rows.right_item))
        return there

    def _match_again(self, connection: Connection, left: Ids) -> None:
        if len(left):
            parameters = {"matcher": self.name, "source": self.sides.left, "ids": Uuids(left)}
            connection.execute(query("match_again"), parameters)
