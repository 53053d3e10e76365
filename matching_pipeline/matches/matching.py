"""The top-k lists of one matcher: their maintenance and their rebuild."""

from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache, partial
from queue import SimpleQueue
from uuid import UUID

import numpy as np

from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import named_rows, query
from matching_pipeline.db.transactions import GAVE_WAY, give_way
from matching_pipeline.errors import ConfigurationError
from matching_pipeline.matches import rebuilds
from matching_pipeline.matches.image_sets import PART_IMAGES, load
from matching_pipeline.matches.kernel.columns import Ids, as_ids, as_uuids, concatenate
from matching_pipeline.matches.kernel.differences import Change, difference
from matching_pipeline.matches.kernel.lists import merge
from matching_pipeline.matches.kernel.pairs import NO_PAIRS, Pairs
from matching_pipeline.matches.locks import ListsLock
from matching_pipeline.matches.rebuilds import Part, Shard
from matching_pipeline.matches.restrictions import look_again
from matching_pipeline.matches.rows import (
    NO_IDS,
    NO_LISTINGS,
    Listings,
    MatchRows,
    listings_in,
    listings_of,
    owned_by,
    rows_from,
    stored_rows,
)
from matching_pipeline.matches.rule import Rule
from matching_pipeline.matches.scoring import Scoring
from matching_pipeline.matches.writing import Figures, write
from matching_pipeline.sources.matcher import Matcher

LISTS_AT_ONCE = 1000
"""A rebuild writes the rows of so many left entities in one transaction."""
SHARD_ENTITIES = 10_000
"""Entities in a shard. If only left entities keep lists, a larger block is divided."""

Changed = Mapping[str, Collection[UUID]]
"""Entities by source."""


@dataclass(frozen=True)
class Matching:
    rule: Rule
    part_images: int = PART_IMAGES
    """how many images of the other side are held at once, if only left entities keep lists"""

    @property
    def name(self) -> str:
        return self.rule.matcher

    def update(self, connection: Connection, changed: Changed) -> Figures:
        """Maintains the lists after these entities changed, in the caller's transaction, which holds the lists."""
        rule, scoring = self.rule, Scoring(connection, self.rule, self.part_images)
        ids = {source: as_ids(changed.get(source, ())) for source in rule.sources}
        lists, entering = _scored(scoring, rule, changed)
        holding = listings_in(stored_rows(connection, rule, ids), rule)
        owners = {source: [entering[source].left, owned_by(holding, rule, source).owner] for source in rule.keepers}
        touched = {source: np.setdiff1d(np.concatenate(owners[source]), ids[source]) for source in rule.keepers}
        computed = {source: np.union1d(touched[source], ids[source]) for source in rule.keepers}
        stored = stored_rows(connection, rule, computed)
        listings = listings_in(stored, rule)
        for source in rule.keepers:
            before, scored = owned_by(listings, rule, source).pairs, entering[source]
            merged, incomplete = merge(
                before.take(np.isin(before.left, touched[source])),
                ids[rule.other(source)],
                scored.take(np.isin(scored.left, touched[source])),
                scoring.policy,
            )
            lists[source].append(merged)
            for members, here in scoring.in_blocks(source, as_uuids(incomplete)):
                lists[source].append(scoring.best(source, here, scoring.opposite(members)))
        return self._write(connection, _after(rule, scoring.model, computed, lists, stored))

    def plan(self, connection: Connection, rebuild: int) -> None:
        """Divides a rebuild into shards."""
        connection.execute(query("plan_rebuild"), {"rebuild": rebuild, "matcher": self.name, "size": SHARD_ENTITIES})

    def rebuild(self, connection: Connection, on_progress: rebuilds.OnProgress = lambda done, total: None) -> Figures:
        """Recomputes every list, shard by shard, and writes the difference."""
        return rebuilds.run_all(connection, self.name, self.plan, self.rebuild_shard, on_progress)

    def rebuild_shard(self, connection: Connection, shard: Shard, on_part: rebuilds.OnPart) -> Figures:
        """Leaves parts whose rows the app has locked for last. Raises one of GAVE_WAY if they still are locked, when
        all other parts are done."""
        figures, locked = Figures(), []
        for part in shard.parts:
            try:
                figures += self.rebuild_part(connection, part, partial(_report, on_part, figures.lists))
            except GAVE_WAY:
                locked.append(part)
        for part in locked:
            figures += self.rebuild_part(connection, part)
        on_part(figures.lists)
        return figures

    def rebuild_part(
        self, connection: Connection, part: Part, on_part: rebuilds.OnPart = lambda done: None
    ) -> Figures:
        """Rebuilds in many short transactions, two at a time. The caller has taken or shares the lists."""
        found = give_way(connection, partial(self._compare, connection, part))
        changes = list(found.change.parts(LISTS_AT_ONCE))
        written, free = Figures(), SimpleQueue[Connection]()

        def put(change: Change[MatchRows]) -> Figures:
            session = free.get()
            try:
                return give_way(session, partial(write, session, self.rule, found.model, change, found.computed))
            finally:
                free.put(session)

        lock = ListsLock(connection, self.name)
        with lock.sharing_sessions(len(changes)) as sessions, ThreadPoolExecutor(len(sessions)) as pool:
            for session in sessions:
                free.put(session)
            for done, figures in enumerate(pool.map(put, changes), start=1):
                on_part(found.lists * done // len(changes))
                written += figures
        self.look_again(connection, np.concatenate(list(found.computed.values())))
        return found.figures(written)

    def look_again(self, connection: Connection, entities: Ids) -> None:
        """Leaves out pairs of these entities that the app excepted while they were written."""
        look_again(connection, self.rule, entities)

    def rebuild_at_once(self, connection: Connection) -> Figures:
        """The caller's transaction holds the lists and changes the model.

        Readers see all old pairs or all new pairs.
        """
        figures = Figures()
        for found in self.differences(connection):
            figures += self._write(connection, found)
        # pairs with the same score under both models were not written
        model = Scoring(connection, self.rule, self.part_images).model
        connection.execute(query("name_model_of_matches"), {"matcher": self.name, "model": model})
        return figures

    def differences(self, connection: Connection) -> Iterator["Difference"]:
        """How the stored rows differ from the wanted ones, in parts that bound memory."""
        parameters = {"matcher": self.name, "size": SHARD_ENTITIES}
        for shard in named_rows(connection, "rebuild_parts", **parameters):
            for part in shard["parts"]:
                yield self._compare(connection, Part(**part))

    def _write(self, connection: Connection, found: "Difference") -> Figures:
        return found.figures(write(connection, self.rule, found.model, found.change, found.computed))

    def _compare(self, connection: Connection, part: Part) -> "Difference":
        rule, scoring = self.rule, Scoring(connection, self.rule, self.part_images)
        computed, listings = (
            self._lone(connection) if part.same is None else self._computed(connection, scoring, part)
        )
        stored = stored_rows(connection, rule, computed)
        return Difference.of(computed, rows_from(listings), stored, scoring.model)

    def _computed(self, connection: Connection, scoring: Scoring, part: Part) -> tuple[dict[str, Ids], Listings]:
        """The entities of the part that keep lists, and all their listings."""
        held = cache(partial(load, connection))
        entities: dict[str, list[Ids]] = {source: [NO_IDS] for source in self.rule.keepers}
        listings = [NO_LISTINGS]
        for source in self.rule.keepers:
            for block in self.rule.blocks_with(part.same or {}):
                members = scoring.members(source, block, part.first, part.before)
                here, others = held(members), scoring.opposite(members)
                if self.rule.both:
                    pairs = scoring.best_of(source, here, held(others))
                else:
                    pairs = scoring.best(source, here, others)
                entities[source].append(here.entities)
                listings.append(listings_of(pairs, self.rule, source))
        return {source: np.concatenate(ids) for source, ids in entities.items()}, concatenate(listings)

    def _lone(self, connection: Connection) -> tuple[dict[str, Ids], Listings]:
        """Entities that have pairs but can match no other, and no listings."""
        lone: dict[str, list[UUID]] = {source: [] for source in self.rule.keepers}
        for source, id in connection.execute(query("lone_entities_with_pairs"), {"matcher": self.name}):
            lone[source].append(id)
        return {source: as_ids(ids) for source, ids in lone.items()}, NO_LISTINGS


@dataclass(frozen=True)
class Difference:
    """How stored rows differ from the wanted ones."""

    computed: Mapping[str, Ids]
    """by source, the entities whose lists were computed"""
    change: Change[MatchRows]
    wanted: int
    """rows"""
    model: str

    @classmethod
    def of(cls, computed: Mapping[str, Ids], wanted: MatchRows, stored: MatchRows, model: str) -> "Difference":
        return cls(computed, difference(wanted, stored), len(wanted), model)

    @property
    def lists(self) -> int:
        return sum(map(len, self.computed.values()))

    def figures(self, written: Figures) -> Figures:
        return replace(written, lists=self.lists, unchanged=self.wanted - written.added - written.changed)


def _scored(scoring: Scoring, rule: Rule, changed: Changed) -> tuple[dict[str, list[Pairs]], dict[str, Pairs]]:
    """The lists of the changed entities, and the pairs that may enter the lists of others; both by source."""
    lists: dict[str, list[Pairs]] = {source: [] for source in rule.keepers}
    entering: dict[str, list[Pairs]] = {source: [NO_PAIRS] for source in rule.keepers}
    for source in rule.sources:
        for members, here in scoring.in_blocks(source, changed.get(source, ())):
            own, others = scoring.changed(members, here)
            if own is not None:
                lists[source].append(own)
            if others is not None:
                entering[rule.other(source)].append(others)
    return lists, {source: concatenate(pairs) for source, pairs in entering.items()}


def _after(
    rule: Rule, model: str, computed: Mapping[str, Ids], lists: Mapping[str, list[Pairs]], stored: MatchRows
) -> Difference:
    """The difference that these lists make to the stored rows, which have all other listings as they should be."""
    parts = []
    for source in lists:
        pairs = concatenate(lists[source])
        parts.append(listings_of(pairs.take(np.argsort(pairs.left, kind="stable")), rule, source))
    for source in lists:
        listings = owned_by(listings_in(stored, rule), rule, source)
        parts.append(listings.take(~np.isin(listings.owner, computed[source])))
    return Difference.of(computed, rows_from(concatenate(parts)), stored, model)


def _report(on_part: rebuilds.OnPart, before: int, done: int) -> None:
    on_part(before + done)


def matching_of(matcher: Matcher, part_images: int = PART_IMAGES) -> Matching:
    rule = Rule(
        *(matcher.name, matcher.left, matcher.right, matcher.same, tuple(matcher.opposite.items()), matcher.both),
        never_same=matcher.never_same,
        has_exceptions=matcher.exceptions is not None,
    )
    return Matching(rule, part_images)


def attached(connection: Connection, name: str, part_images: int = PART_IMAGES) -> Matching:
    """Raises ConfigurationError if no such matcher is attached."""
    for matching in all_attached(connection, part_images):
        if matching.name == name:
            return matching
    raise ConfigurationError(f"there is no matcher {name}: declare it, then run `matching-pipeline attach`")


def all_attached(connection: Connection, part_images: int = PART_IMAGES) -> list[Matching]:
    rows = connection.execute(query("attached_matchers")).fetchall()
    return [matching_of(Matcher.model_validate(declaration), part_images) for _, declaration, _ in rows]
