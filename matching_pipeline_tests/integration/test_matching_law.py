"""The law for projects: an empty queue and a rebuild both leave the lists as they are defined."""

from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from matching_pipeline.db.connections import Connection
from matching_pipeline.handlers.matches import MatchHandler
from matching_pipeline.matches import matching, scoring
from matching_pipeline.matches.matching import Matching
from matching_pipeline.matches.writing import Figures
from matching_pipeline.models import activation
from matching_pipeline.models.registry import registered_models
from matching_pipeline.providers.protocols import FLOAT16
from matching_pipeline.queues.handler import Handler
from matching_pipeline.sources import expansion
from matching_pipeline_tests.integration.law import (
    DIMENSIONS,
    Law,
    Vector,
    at,
    hold_law,
    limits,
    places,
    upheavals,
    vectors,
)
from matching_pipeline_tests.integration.marketplace import (
    MODEL,
    PROJECT,
    PROJECT_RULE,
    SOURCES,
    GivenImages,
    Marketplace,
    Row,
    url_of,
)

OTHER_MODEL = "other" + FLOAT16
PART_IMAGES = 3
"""So few that the other side comes in several parts."""

IN_PARTS = Matching(PROJECT.rule, PART_IMAGES)

colors = st.lists(st.sampled_from(["red", "blue"]), unique=True)
kinds = st.sampled_from(["project", "product"])
images = st.sampled_from(["listing_images", "product_images"])
entities = st.sampled_from(["listings", "products"])


class SmallBatches(MatchHandler):
    batch_size = 2


class FewImages(GivenImages):
    batch_size = 2


class MatchingLaw(Law):
    matcher = PROJECT_RULE
    sources = ("project", "product")

    @initialize(
        limit=limits,
        projects=st.lists(vectors, min_size=1, max_size=2),
        products=st.lists(vectors, min_size=3, max_size=6),
    )
    def open_market(self, limit: int, projects: list[Vector], products: list[Vector]) -> None:
        self.connection.execute("truncate listings, products cascade")
        self.connection.execute("truncate matching_pipeline.jobs, matching_pipeline.embeddings")
        self.connection.execute(
            "update matching_pipeline.match_settings set top = %s, threshold = 0.4, attribute_weight = 0.2 "
            "where matcher = 'project'",
            (limit,),
        )
        self.connection.execute("delete from matching_pipeline.embedding_models where modality = 'image'")
        self.app = Marketplace(self.connection, DIMENSIONS)
        self.connection.execute(
            "insert into matching_pipeline.embedding_models values (%s, 'image', %s, 'shadow')",
            (OTHER_MODEL, DIMENSIONS),
        )
        for kind, given in (("project", projects), ("product", products)):
            for vector in given:
                self.add(kind, vector, [])
        self.process()

    def handlers(self) -> Sequence[Handler]:
        return [FewImages("image_ai"), FewImages("image_ai_shadow"), SmallBatches(self.matcher.queue, IN_PARTS)]

    def rebuild_lists(self, connection: Connection) -> Figures:
        return IN_PARTS.rebuild(connection)

    def rows(self) -> Sequence[Row]:
        self.publish()
        return self.app.matches()

    def expected_rows(self) -> Sequence[Row]:
        return self.app.expected_matches()

    def mirror(self) -> tuple[set[Any], set[Any]]:
        return self.app.mirror()

    @rule(kind=kinds, vector=vectors, words=colors)
    def add(self, kind: str, vector: Vector, words: list[str]) -> None:
        self.app.add_image(kind, self.app.add(kind), vector, words)

    @rule(kind=kinds, vector=vectors, words=colors, place=places)
    def add_another_image(self, kind: str, vector: Vector, words: list[str], place: int) -> None:
        if entities := self.entities(kind):
            self.app.add_image(kind, at(place, entities), vector, words)

    @rule(kind=kinds, vector=vectors, words=colors, place=places, model=st.sampled_from([MODEL, OTHER_MODEL]))
    def analyse_an_image(self, kind: str, vector: Vector, words: list[str], place: int, model: str) -> None:
        """For the first time by that model, or again with another result."""
        there = self.connection.execute(
            "select images.id from listing_images as images join listings on listings.id = listing_id "
            "where type = 'project' and %(kind)s = 'project' "
            "union all select id from product_images where %(kind)s = 'product'",
            {"kind": kind},
        )
        if images := sorted(image for (image,) in there):
            self.app.embed(kind, at(place, images), vector, words, model)

    def change_a_listed_entity(self, vector: Vector, place: int) -> None:
        if rows := self.rows():
            *_, image, _ = at(place, rows)
            self.app.embed("product", image, vector)

    @rule(kind=kinds, place=places)
    def move_image(self, kind: str, place: int) -> None:
        table, entity_column, _ = SOURCES[kind]
        if (images := self.ids(table)) and (entities := self.entities(kind)):
            self.change(
                f"update {table} set {entity_column} = %s where id = %s",
                *(at(place, entities), at(place // 7, images)),
            )

    @rule(kind=kinds, vector=vectors, words=colors, place=places, seen=st.booleans())
    def give_an_image_another_url(self, kind: str, vector: Vector, words: list[str], place: int, seen: bool) -> None:
        table, _, url_column = SOURCES[kind]
        if images := self.ids(table):
            change = self.change if seen else self.change_unseen
            change(f"update {table} set {url_column} = %s where id = %s", url_of(vector, words), at(place, images))

    @rule(table=entities | images, place=places)
    def delete_unseen(self, table: str, place: int) -> None:
        if ids := self.ids(table):
            self.change_unseen(f"delete from {table} where id = %s", at(place, ids))

    @rule(place=places, type=st.sampled_from(["project", "offer"]))
    def change_the_type_of_a_listing(self, place: int, type: str) -> None:
        if listings := self.ids("listings"):
            self.change("update listings set type = %s where id = %s", type, at(place, listings))

    @rule(table=entities | images, place=places)
    def delete(self, table: str, place: int) -> None:
        if ids := self.ids(table):
            self.change(f"delete from {table} where id = %s", at(place, ids))

    @rule(table=entities | images, place=places)
    def change_a_key(self, table: str, place: int) -> None:
        if ids := self.ids(table):
            self.change(f"update {table} set id = %s where id = %s", self.app.new_id(), at(place, ids))

    @rule(
        upheaval=upheavals(
            "project",
            {"threshold": [0, 0.4, 0.5, 0.9], "top": [1, 2, 4], "attribute_weight": [0, 0.2, 1]},
            [
                *("listings", "products", "listing_images", "product_images"),
                *("matching_pipeline.embeddings", "matching_pipeline.matches"),
            ],
        )
        | st.just(None)
    )
    def change_all(self, upheaval: str | None) -> None:
        """Without an upheaval the models change places."""
        if upheaval:
            self.change(upheaval)
        else:
            (shadow,) = [model.name for model, _ in registered_models(self.connection) if model.status == "shadow"]
            change = activation.Options(force=True, accept_loss=True, thresholds={"project": 0.4})
            activation.activate(self.connection, shadow, change, part_images=PART_IMAGES)

    def entities(self, kind: str) -> list[UUID]:
        return self.ids("listings" if kind == "project" else "products")


@pytest.fixture(scope="module")
def module_database_url(new_database: Callable[..., str], migrated_template: str) -> str:
    return new_database(migrated_template)


def test_project_lists_are_as_defined_after_any_sequence_of_events(
    module_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matching, "SHARD_ENTITIES", 2)
    monkeypatch.setattr(matching, "LISTS_AT_ONCE", 1)
    # so few that sometimes Postgres computes which projects are near, and sometimes the kernel
    monkeypatch.setattr(scoring, "FEW_SOUGHT", 1)
    monkeypatch.setattr(expansion, "KEYS_AT_ONCE", 2)
    hold_law(MatchingLaw, module_database_url, examples=45)
