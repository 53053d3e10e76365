"""Changes of the inputs of `matches`, or of `matches` itself, queue jobs."""

import re
from collections.abc import Callable, Iterator

import pytest

from matching_pipeline.db.connections import Connection, connect
from matching_pipeline.db.files import ROOT
from matching_pipeline.db.migrations import migrate
from matching_pipeline.providers.protocols import FLOAT16
from matching_pipeline.queues.worker import QueueWorker
from matching_pipeline.sources.attach import attach, make_example_tables
from matching_pipeline_tests.conftest import EXAMPLES
from matching_pipeline_tests.fixtures.app import App, MatchedPair
from matching_pipeline_tests.integration.marketplace import GivenImages

WITHOUT_FOREIGN_KEYS = """
create type listing_type as enum ('project', 'service');
create table listings (id uuid primary key, type listing_type);
create table listing_images (id uuid primary key, listing_id uuid, image_url varchar(500));
create table products (id uuid primary key);
create table product_images (id uuid primary key, product_id uuid, src varchar(500));
"""


@pytest.fixture
def pair(connection: Connection) -> MatchedPair:
    return MatchedPair(connection)


@pytest.fixture(scope="session")
def loose_template(new_database: Callable[..., str]) -> str:
    url = new_database(name="without_foreign_keys")
    with connect(url) as connection:
        migrate(connection)
    with connect(url) as connection:
        connection.execute(WITHOUT_FOREIGN_KEYS)
        make_example_tables(connection)
        attach(connection, EXAMPLES)
        connection.execute("delete from matching_pipeline.jobs")
    return "without_foreign_keys"


class Loose(MatchedPair):
    """In tables of the app that have no foreign keys and an enumeration for a type."""

    def __init__(self, connection: Connection, database_url: str) -> None:
        super().__init__(connection)
        self._database_url = database_url

    def read_images(self) -> None:
        """As workers do that analyse nothing."""
        QueueWorker(self._database_url, GivenImages("image_ai")).run()


@pytest.fixture
def loose(new_database: Callable[..., str], loose_template: str) -> Iterator[Loose]:
    database_url = new_database(loose_template)
    with connect(database_url) as connection:
        yield Loose(connection, database_url)


def test_a_match_deleted_by_hand_queues_its_project(pair: MatchedPair) -> None:
    pair.run("delete from matching_pipeline.matches")
    assert pair.queue_rows() == {pair.match_project()}


def test_a_match_deleted_as_architecture_says_queues_nothing_until_the_commit(pair: MatchedPair) -> None:
    (example,) = re.findall(r"```sql\n(.*?)```", (ROOT / "ARCHITECTURE.md").read_text(), re.DOTALL)
    assert "skip_matching" in example
    pair.run("update matching_pipeline.matches set similarity = 0.55")
    pair.connection.execute(example.encode())
    assert pair.matched() == set()
    assert pair.queue_rows() == set()
    pair.match(pair.project, pair.wares, pair.project_image, pair.wares_image)
    pair.run("delete from matching_pipeline.matches")
    assert pair.queue_rows() == {pair.match_project()}


def test_matches_truncated_in_the_pipelines_name_queue_nothing(pair: MatchedPair) -> None:
    with pair.connection.transaction():
        pair.run("set local matching_pipeline.skip_matching = 'on'")
        pair.run("truncate matching_pipeline.matches")
    assert pair.queue_rows() == set()


def test_truncated_matches_queue_every_project(pair: MatchedPair) -> None:
    other = pair.listing()
    pair.listing("service")
    pair.embed("project", pair.listing_image(other))
    pair.settle()
    pair.run("truncate matching_pipeline.matches")
    assert pair.queue_rows() == {pair.match_project(), ("matches_project", "project", other)}


def test_changed_settings_queue_every_project(pair: MatchedPair) -> None:
    pair.run("update matching_pipeline.match_settings set threshold = 0.7 where matcher = 'project'")
    assert pair.queue_rows() == {pair.match_project()}


def test_a_new_result_queues_its_entity(pair: MatchedPair) -> None:
    image, ware_image = pair.listing_image(pair.project), pair.product_image(pair.wares)
    pair.settle()
    pair.embed("project", image)
    assert pair.queue_rows() == {pair.match_project()}
    pair.embed("product", ware_image)
    assert pair.queue_rows() == {pair.match_project(), pair.match_wares()}


@pytest.mark.parametrize(
    ("change", "matched"),
    [
        ("embedding = '[0,1]'", True),
        ("""attributes = '{"colors": ["red"]}'""", True),
        ("embedding = '[1,0]', attributes = '{}'", False),
        ("input = 'new', embedded_at = now()", False),
    ],
)
@pytest.mark.parametrize("suffix", ["", FLOAT16])
def test_a_changed_result_queues_its_entity_and_the_same_result_does_not(
    pair: MatchedPair, change: str, matched: bool, suffix: str
) -> None:
    pair.run("update matching_pipeline.embedding_models set name = name || %s", suffix)
    pair.run("update matching_pipeline.embeddings set embedding = embedding")
    pair.settle()
    pair.run(f"update matching_pipeline.embeddings set {change} where source = 'product'")
    assert pair.queue_rows() == ({pair.match_wares()} if matched else set())


def test_a_lost_result_queues_its_entity(pair: MatchedPair) -> None:
    pair.run("delete from matching_pipeline.embeddings where source = 'product'")
    assert pair.queue_rows() == {pair.match_wares()}


def test_a_result_of_a_model_that_is_not_active_queues_nothing(pair: MatchedPair) -> None:
    pair.embed("project", pair.project_image, "candidate", "shadow")
    pair.run("update matching_pipeline.embeddings set embedding = '[0,1]' where model = 'candidate'")
    pair.run("delete from matching_pipeline.embeddings where model = 'candidate'")
    assert pair.queue_rows() == set()


def test_without_foreign_keys_a_deleted_entity_removes_its_results(loose: Loose) -> None:
    waiting = loose.listing_image(loose.project)
    loose.run("delete from listings")
    assert (loose.analysed(), loose.matched()) == ({loose.wares_image}, set())
    assert loose.queue_rows() == {("image_ai", "project", waiting)}
    loose.run("delete from products")
    assert loose.analysed() == set()
    loose.read_images()
    assert waiting in loose.run("select id from listing_images")
    assert loose.run("select key from matching_pipeline.entities") == []
    assert loose.run("select matching_pipeline.enqueue_missing()") == [0]


@pytest.mark.parametrize("table", ["listings", "products"])
def test_without_foreign_keys_truncated_entities_remove_their_results(loose: Loose, table: str) -> None:
    loose.run(f"truncate {table} cascade")
    assert loose.matched() == set()
    assert loose.analysed() == ({loose.wares_image} if table == "listings" else {loose.project_image})
    loose.read_images()
    assert loose.analysed() == ({loose.wares_image} if table == "listings" else {loose.project_image})


def test_without_foreign_keys_an_entitys_new_key_leaves_its_images_behind(loose: Loose) -> None:
    loose.run("update listings set id = gen_random_uuid()")
    loose.run("update products set id = gen_random_uuid()")
    assert loose.analysed() == set()
    loose.read_images()
    loose.run("update listing_images set listing_id = (select id from listings)")
    loose.run("update product_images set product_id = (select id from products)")
    assert {
        ("image_ai", "project", loose.project_image),
        ("image_ai", "product", loose.wares_image),
    } <= loose.queue_rows()
    loose.read_images()
    assert set(loose.run("select id from matching_pipeline.items")) == {loose.project_image, loose.wares_image}


def test_without_foreign_keys_images_may_come_before_their_entities(loose: Loose) -> None:
    app: App = loose
    (listing, product) = loose.run("select gen_random_uuid() from generate_series(1, 2)")
    image, ware_image = app.listing_image(listing), app.product_image(product)
    loose.read_images()
    app.settle()
    assert not {image, ware_image} & set(loose.run("select id from matching_pipeline.items"))
    app.run("insert into listings (id, type) values (%s, 'project')", listing)
    app.run("insert into products (id) values (%s)", product)
    assert app.queue_rows() == {("image_ai", "project", listing), ("image_ai", "product", product)}
    loose.read_images()
    assert {image, ware_image} <= set(loose.run("select id from matching_pipeline.items"))


def test_an_enumerated_type_says_what_a_project_is(loose: Loose) -> None:
    loose.run("update listings set type = 'service'")
    loose.read_images()
    assert loose.analysed() == {loose.wares_image}
    assert loose.matched() == set()
    loose.run("update listings set type = 'project'")
    assert ("image_ai", "project", loose.project) in loose.queue_rows()
    loose.read_images()
    assert loose.project_image in loose.run("select id from matching_pipeline.items")


def test_a_type_that_is_null_is_no_project(loose: Loose) -> None:
    loose.run("update listings set type = null")
    loose.read_images()
    assert loose.analysed() == {loose.wares_image}
