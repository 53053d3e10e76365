"""The law: after the queue is drained, incremental maintenance and a rebuild give the same rows."""

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from matching_pipeline.db.connections import Connection, connect
from matching_pipeline.drain import Drain
from matching_pipeline.stages.matching import MatchingStage, rebuild
from matching_pipeline_tests.integration.marketplace import SOURCES, Marketplace

Vector = tuple[float, float, float]

# few directions, so that ties, equal images and scores at the threshold are common
vectors = st.sampled_from([(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (1.0, 1.0, 0.0), (1.0, 0.2, 0.1), (0.9, 0.2, 0.3)])
colors = st.lists(st.sampled_from(["red", "blue"]), unique=True)
kinds = st.sampled_from(["project", "product"])
pick = st.randoms(use_true_random=False)


class SmallBatches(MatchingStage):
    """So that changes arrive between the batches of one drain's work."""

    batch_size = 3


class MatchingLaw(RuleBasedStateMachine):
    connection: Connection
    database_url: str

    @initialize(
        limit=st.integers(1, 3), projects=st.lists(vectors, max_size=2), products=st.lists(vectors, max_size=6)
    )
    def open_market(self, limit: int, projects: list[Vector], products: list[Vector]) -> None:
        self.connection.execute("truncate listings, products cascade")
        self.connection.execute("truncate job_queue, image_ai")
        self.connection.execute(
            "update match_settings set match_limit = %s, threshold = 0.5, attribute_weight = 0.2 "
            "where kind = 'project'",
            (limit,),
        )
        self.market = Marketplace(self.connection)
        self.owners: dict[str, list[UUID]] = {"project": [], "product": []}
        self.images: dict[str, list[UUID]] = {"project": [], "product": []}
        for kind, given in (("project", projects), ("product", products)):
            for vector in given:
                self.add(kind, vector, [])
        self.drain_holds_the_law(drains=1)

    @rule(kind=kinds, vector=vectors, words=colors)
    def add(self, kind: str, vector: Vector, words: list[str]) -> None:
        self.owners[kind].append(self.market.add(kind))
        self.images[kind].append(self.market.add_image(kind, self.owners[kind][-1], vector, words))

    @rule(kind=kinds, vector=vectors, words=colors, chance=pick)
    def add_another_image(self, kind: str, vector: Vector, words: list[str], chance: random.Random) -> None:
        if self.owners[kind]:
            owner = chance.choice(self.owners[kind])
            self.images[kind].append(self.market.add_image(kind, owner, vector, words))

    @rule(kind=kinds, vector=vectors, words=colors, chance=pick)
    def change_image(self, kind: str, vector: Vector, words: list[str], chance: random.Random) -> None:
        if self.images[kind]:
            self.market.embed(kind, chance.choice(self.images[kind]), vector, words)

    @rule(kind=kinds, chance=pick)
    def move_image(self, kind: str, chance: random.Random) -> None:
        table, owner_column, _ = SOURCES[kind]
        if self.images[kind]:
            image, owner = chance.choice(self.images[kind]), chance.choice(self.owners[kind])
            self.connection.execute(f"update {table} set {owner_column} = %s where id = %s", (owner, image))

    @rule(kind=kinds, chance=pick)
    def delete_image(self, kind: str, chance: random.Random) -> None:
        if self.images[kind]:
            image = self.images[kind].pop(chance.randrange(len(self.images[kind])))
            self.market.delete(SOURCES[kind][0], image)

    @rule(kind=kinds, chance=pick)
    def delete_owner(self, kind: str, chance: random.Random) -> None:
        if self.owners[kind]:
            owner = self.owners[kind].pop(chance.randrange(len(self.owners[kind])))
            self.market.delete("listings" if kind == "project" else "products", owner)
            self._forget_lost_images(kind)

    @rule(kind=kinds)
    def truncate(self, kind: str) -> None:
        self.connection.execute(f"truncate {SOURCES[kind][0]} cascade")
        self.images[kind] = []

    @rule(chance=pick)
    def delete_a_match_by_hand(self, chance: random.Random) -> None:
        if rows := self.market.matches():
            project, product, *_ = chance.choice(rows)
            self.connection.execute(
                "delete from matches where project_id = %s and product_id = %s", (project, product)
            )

    @rule(setting=st.sampled_from(["threshold", "attribute_weight"]), value=st.sampled_from([0.0, 0.2, 0.5, 0.9]))
    def change_settings(self, setting: str, value: float) -> None:
        self.connection.execute(f"update match_settings set {setting} = %s where kind = 'project'", (value,))

    @rule(limit=st.integers(1, 4))
    def change_limit(self, limit: int) -> None:
        self.connection.execute("update match_settings set match_limit = %s where kind = 'project'", (limit,))

    @precondition(lambda self: self.owners["project"])
    @rule()
    def rebuild(self) -> None:
        rebuild(self.connection)

    @rule(drains=st.integers(1, 2))
    def drain_holds_the_law(self, drains: int) -> None:
        with ThreadPoolExecutor() as pool:
            for done in [pool.submit(Drain(self.database_url, SmallBatches()).run) for _ in range(drains)]:
                done.result()
        # whoever gave way to the other gave its items back for a few seconds
        self.connection.execute("update job_queue set run_at = now() where status = 'pending'")
        Drain(self.database_url, SmallBatches()).run()
        drained = self.market.matches()
        expected = self.market.expected_matches()
        assert drained == expected
        figures = rebuild(self.connection)
        assert (figures.added, figures.changed, figures.removed) == (0, 0, 0)
        assert self.market.matches() == drained

    def teardown(self) -> None:
        if hasattr(self, "market"):
            self.drain_holds_the_law(drains=1)

    def _forget_lost_images(self, kind: str) -> None:
        standing = {id for (id,) in self.connection.execute(f"select id from {SOURCES[kind][0]}")}
        self.images[kind] = [image for image in self.images[kind] if image in standing]


@pytest.fixture(scope="module")
def module_database_url(new_database: Callable[..., str], migrated_template: str) -> str:
    return new_database(migrated_template)


def test_drained_and_rebuilt_matches_are_those_that_the_definition_gives(module_database_url: str) -> None:
    with connect(module_database_url) as connection:

        class Machine(MatchingLaw):
            pass

        Machine.connection = connection
        Machine.database_url = module_database_url
        run_state_machine_as_test(
            Machine,
            settings=settings(
                max_examples=40,
                stateful_step_count=25,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
