"""A block that is held between jobs is what its rows are at every look, whoever changed them."""

import random
from collections.abc import Callable
from uuid import UUID

import pytest

from matching_pipeline.db.connections import Connection, connect
from matching_pipeline.matches import holding
from matching_pipeline.matches.holding import forget_changes, held_near
from matching_pipeline.matches.image_sets import PART_IMAGES, Members, load
from matching_pipeline.matches.kernel.columns import as_uuids
from matching_pipeline.matches.kernel.images import ImageSet
from matching_pipeline.matches.kernel.policy import Policy
from matching_pipeline_tests.integration.marketplace import MODEL, PROJECT, Marketplace

PROJECTS = Members("project", MODEL)
ALL = Policy(threshold=-1.0, attribute_weight=0.2)


@pytest.fixture
def market(connection: Connection) -> Marketplace:
    market = Marketplace(connection)
    for number in range(3):
        market.add_image("project", market.add("project"), (1, number, 0), ["red"])
    market.add_image("product", market.add("product"), (1, 0, 0))
    return market


def look(connection: Connection, most_images: int = PART_IMAGES) -> ImageSet | None:
    sought = load(connection, Members("product", MODEL))
    return held_near(connection, PROJECTS, sought, ALL, most_images)


def contents(images: ImageSet) -> list[tuple[UUID, UUID, list[float], frozenset[str]]]:
    entities = as_uuids(images.entities[images.entity_of_row])
    return list(zip(entities, as_uuids(images.image_ids), images.embeddings.tolist(), images.tokens, strict=True))


def assert_up_to_date(connection: Connection) -> None:
    held = look(connection)
    assert held is not None
    assert contents(held) == contents(load(connection, PROJECTS))


def test_a_block_is_held_from_the_second_time_on_that_it_is_sought(
    connection: Connection, market: Marketplace
) -> None:
    assert look(connection) is None
    assert_up_to_date(connection)


def test_a_block_of_too_many_images_is_not_held(connection: Connection, market: Marketplace) -> None:
    look(connection, most_images=2)
    assert look(connection, most_images=2) is None


def test_the_longest_unused_block_makes_room(connection: Connection, market: Marketplace) -> None:
    others = Members("product", MODEL)
    sought = load(connection, others)
    for _ in range(2):
        look(connection)
        held_near(connection, others, sought, ALL, most_images=3)
    assert list(holding._sessions[connection].held) == [others]


@pytest.mark.parametrize("seed", range(5))
def test_no_change_is_missed(connection: Connection, database_url: str, market: Marketplace, seed: int) -> None:
    draw = random.Random(seed)
    with connect(database_url) as session:
        other = Marketplace(session)
        other.new_id = market.new_id  # type: ignore[method-assign]
        look(connection)
        assert_up_to_date(connection)
        for _ in range(12):
            one = draw.choice((market, other))
            how = draw.choice((committed, rolled_back, partly_rolled_back, looked_at_meanwhile))
            how(connection, one, lambda one=one: change(one, draw))  # type: ignore[misc]
            assert_up_to_date(connection)


def committed(connection: Connection, one: Marketplace, act: Callable[[], None]) -> None:
    act()


def rolled_back(connection: Connection, one: Marketplace, act: Callable[[], None]) -> None:
    with one.connection.transaction(force_rollback=True):
        act()
        assert_up_to_date(connection)


def partly_rolled_back(connection: Connection, one: Marketplace, act: Callable[[], None]) -> None:
    with one.connection.transaction():
        with one.connection.transaction(force_rollback=True):
            act()
            assert_up_to_date(connection)
        assert_up_to_date(connection)
        act()


def looked_at_meanwhile(connection: Connection, one: Marketplace, act: Callable[[], None]) -> None:
    """The transaction changes more after the look, and commits."""
    with one.connection.transaction():
        act()
        assert_up_to_date(connection)
        act()


def change(market: Marketplace, draw: random.Random) -> None:
    vector = [draw.choice((-1.0, 0.5, 1.0)) for _ in range(3)]
    projects = [id for (id,) in market.connection.execute("select id from listings order by id")]
    images = [id for (id,) in market.connection.execute("select id from listing_images order by id")]
    what = draw.choice(("add", "add image", "embed again", "erase", "erase image", "move"))
    if what == "add" or not projects or not images:
        market.add_image("project", market.add("project"), vector, ["blue"])
    elif what == "add image":
        market.add_image("project", draw.choice(projects), vector)
    elif what == "embed again":
        market.connection.execute(
            "update matching_pipeline.embeddings set embedding = %s::vector where item = %s",
            (str(vector), draw.choice(images)),
        )
    elif what == "erase":
        market.delete("listings", draw.choice(projects))
    elif what == "erase image":
        market.delete("listing_images", draw.choice(images))
    else:
        market.connection.execute(
            "update matching_pipeline.items set entity = %s where source = 'project' and id = %s",
            (draw.choice(projects), draw.choice(images)),
        )


def test_changes_are_seen_though_triggers_of_the_app_are_off(connection: Connection, market: Marketplace) -> None:
    look(connection)
    assert_up_to_date(connection)
    connection.execute("set session_replication_role = replica")
    connection.execute("update matching_pipeline.embeddings set embedding = '[3,2,1]'")
    connection.execute("set session_replication_role = origin")
    assert_up_to_date(connection)
    connection.execute("truncate matching_pipeline.embeddings")
    assert look(connection) is None


def test_a_change_whose_note_was_deleted_is_seen(connection: Connection, market: Marketplace) -> None:
    look(connection)
    assert_up_to_date(connection)
    connection.execute("update matching_pipeline.embeddings set embedding = '[3,2,1]'")
    connection.execute("delete from listings where id = (select min(id::text)::uuid from listings)")
    connection.execute("update matching_pipeline.entity_changes set changed_at = now() - interval '2 hours'")
    forget_changes(connection)
    assert connection.execute(
        "select count(*) from matching_pipeline.entity_changes where entity is not null or tail is not null"
    ).fetchone() == (0,)
    assert_up_to_date(connection)


def test_lists_are_as_defined_after_erasures_by_the_app(
    connection: Connection, database_url: str, market: Marketplace
) -> None:
    PROJECT.rebuild(connection)
    for number in range(4):
        product = market.add("product")
        market.add_image("product", product, (1, number, 1))
        with connect(database_url) as app:
            app.execute("delete from listings where id = (select min(id::text)::uuid from listings)")
        with connection.transaction():
            PROJECT.update(connection, {"product": [product]})
        assert market.matches() == market.expected_matches()
