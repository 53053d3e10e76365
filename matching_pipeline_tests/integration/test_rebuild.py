"""A rebuild beside a running app: changes during the rebuild are neither lost nor hinder it."""

import pytest

from matching_pipeline.db.connections import Connection
from matching_pipeline.matches import matching
from matching_pipeline.matches.matching import Matching
from matching_pipeline.matches.writing import Figures
from matching_pipeline_tests.integration.marketplace import PROJECT, Marketplace


@pytest.mark.parametrize(
    "change",
    [
        "delete from product_images where id = %(image)s",
        "delete from products where id = %(product)s",
        "update products set id = gen_random_uuid() where id = %(product)s",
        "delete from listings where id = %(project)s",
        "truncate products cascade",
    ],
)
@pytest.mark.parametrize("processed_before", [True, False])
def test_a_change_between_reading_and_writing_is_matched_again(
    connection: Connection,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    change: str,
    processed_before: bool,
) -> None:
    market = Marketplace(connection)
    first, second = market.add("project"), market.add("project")
    for project in (first, second):
        market.add_image("project", project, (1, 0, 0))
    products = [market.add("product") for _ in range(3)]
    images = [market.add_image("product", product, (1, n / 4, 0)) for n, product in enumerate(products)]
    if processed_before:
        market.process(database_url)
        for n, image in enumerate(reversed(images)):
            market.embed("product", image, (1, n / 4, 0))
    monkeypatch.setattr(matching, "LISTS_AT_ONCE", 1)
    changes = [change]

    def change_once(done: int, total: int) -> None:
        if changes:
            ids = {"image": images[2], "product": products[2], "project": second}
            connection.execute(
                changes.pop().encode(), {name: id for name, id in ids.items() if f"({name})" in change}
            )

    PROJECT.rebuild(connection, change_once)
    market.process(database_url)
    assert market.matches() == market.expected_matches()
    has, should_have = market.mirror()
    assert has == should_have


def test_products_in_parts_give_the_same_matches_as_all_at_once(
    connection: Connection,
) -> None:
    market = Marketplace(connection)
    for n in range(3):
        market.add_image("project", market.add("project"), (1, n / 3, 0))
    for n in range(7):
        product = market.add("product")
        for image in range(1 + n % 3):
            market.add_image("product", product, (1, n / 7, image / 2))
    assert Matching(PROJECT.rule, part_images=2).rebuild(connection).added == 21
    assert market.matches() == market.expected_matches()


def test_a_rebuild_before_anything_was_analysed_finds_nothing(connection: Connection) -> None:
    assert PROJECT.rebuild(connection) == Figures()
