"""A few changed products: Postgres leaves out only projects that none of them can reach."""

import random
from uuid import UUID

import pytest

from matching_pipeline.db.connections import Connection
from matching_pipeline.matches.image_sets import PART_IMAGES, Members, load, stream_near
from matching_pipeline.matches.kernel.columns import as_uuids
from matching_pipeline.matches.kernel.policy import Policy
from matching_pipeline_tests.integration.marketplace import MODEL, PROJECT, Marketplace


def near(connection: Connection, product: UUID, policy: Policy) -> list[UUID]:
    sought = load(connection, Members("product", MODEL), [product])
    floors = ("project", True, False)
    return [
        project
        for part in stream_near(connection, Members("project", MODEL), sought, policy, PART_IMAGES, floors)
        for project in as_uuids(part.entities)
    ]


@pytest.mark.parametrize("weight", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("threshold", [-1.0, 0.0, 0.5, 1.0])
def test_lists_are_as_defined_after_a_product_enters(connection: Connection, weight: float, threshold: float) -> None:
    connection.execute(
        "update matching_pipeline.match_settings set threshold = %s, top = 2, attribute_weight = %s "
        "where matcher = 'project'",
        (threshold, weight),
    )
    draw, market = random.Random(f"{weight} {threshold}"), Marketplace(connection)

    def add_image(kind: str, entity: UUID) -> None:
        vector = [draw.choice((-1, 0, 0.5, 1)) * 10 ** draw.choice((-20, 0, 15)) or 0.1 for _ in range(3)]
        market.add_image(kind, entity, vector, draw.sample(["red", "blue", "green"], draw.randint(0, 2)))

    for kind, count in (("project", 12), ("product", 6)):
        for _ in range(count):
            entity = market.add(kind)
            for _ in range(draw.randint(1, 2)):
                add_image(kind, entity)
    PROJECT.rebuild(connection)
    for _ in range(6):
        product = market.add("product")
        add_image("product", product)
        with connection.transaction():
            PROJECT.update(connection, {"product": [product]})
        assert market.matches() == market.expected_matches()


def test_a_project_that_a_product_cannot_reach_is_not_sent(connection: Connection) -> None:
    market, policy = Marketplace(connection), Policy(threshold=0.5, limit=1, attribute_weight=0.2)
    alike, almost, unlike = (market.add("project") for _ in range(3))
    for project, vector in ((alike, (1, 0, 0)), (almost, (1, 1, 0)), (unlike, (0, 1, 0))):
        market.add_image("project", project, vector)
    product = market.add("product")
    market.add_image("product", product, (1, 0, 0))
    assert near(connection, product, policy) == [alike, almost]
    assert near(connection, product, Policy(threshold=0.9, limit=1, attribute_weight=0.2)) == [alike]

    connection.execute("update matching_pipeline.match_settings set top = 1 where matcher = 'project'")
    market.add_image("product", market.add("product"), (1, 1, 0))
    PROJECT.rebuild(connection)
    another = market.add("product")
    market.add_image("product", another, (0, 0.2, 1))
    assert near(connection, another, Policy(threshold=-1, limit=1, attribute_weight=0)) == []
