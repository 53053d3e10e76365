"""Triggers enqueue keys of changed rows and erase what is deleted, in the app's transaction. Workers do the rest."""

import time
from collections.abc import Callable
from uuid import UUID, uuid4

import psycopg
import pytest

from matching_pipeline.db.connections import Connection, connect
from matching_pipeline.queues import client
from matching_pipeline_tests.fixtures.app import MODEL, App, MatchedPair, mirror_picture
from matching_pipeline_tests.fixtures.notices import payloads
from matching_pipeline_tests.fixtures.pictures import CountingAnalyzer, work_images


@pytest.fixture
def app(connection: Connection) -> App:
    return App(connection)


@pytest.fixture
def pair(connection: Connection) -> MatchedPair:
    return MatchedPair(connection)


@pytest.fixture
def work(database_url: str) -> Callable[[], object]:
    """Does the jobs of the pictures. Those at `file:///given` fail, as the worker may read no file."""
    analyzer = CountingAnalyzer()
    analyzer.model, analyzer.dimensions = MODEL, 2
    return lambda: work_images(database_url, analyzer)


def project_images(*ids: UUID) -> set[tuple[str, str, UUID]]:
    return {("image_ai", "project", id) for id in ids}


def product_images(*ids: UUID) -> set[tuple[str, str, UUID]]:
    return {("image_ai", "product", id) for id in ids}


def project(listing: UUID) -> tuple[str, str, UUID]:
    """The job of a listing."""
    return ("image_ai", "project", listing)


def test_images_of_projects_and_products_are_queued(app: App) -> None:
    image = app.listing_image(app.listing())
    ware = app.product_image(app.product())
    assert app.queue_rows() == project_images(image) | product_images(ware)


def test_an_image_of_another_listing_is_queued_and_leaves_nothing(app: App, work: Callable[[], object]) -> None:
    """A trigger evaluates no condition over the row of another table."""
    image = app.listing_image(app.listing("service"))
    assert app.queue_rows() == project_images(image)
    work()
    assert app.queue_rows() == set()
    assert app.run("select count(*) from matching_pipeline.entities") == [0]


def test_a_listing_that_becomes_a_project_queues_its_images(app: App, work: Callable[[], object]) -> None:
    listing = app.listing("draft")
    images = [app.listing_image(listing) for _ in range(2)]
    work()
    app.run("update listings set type = 'project' where id = %s", listing)
    assert app.queue_rows() == {project(listing)}
    work()
    assert app.queue_rows() == {project(listing)} | project_images(*images)


def test_results_and_jobs_of_a_listing_that_is_no_project_any_more_are_deleted(
    pair: MatchedPair, work: Callable[[], object]
) -> None:
    waiting = pair.listing_image(pair.project)
    pair.run("update listings set type = 'service'")
    assert pair.queue_rows() == {project(pair.project)} | project_images(waiting)
    work()
    assert pair.analysed() == {pair.wares_image}
    assert pair.matched() == set()
    assert pair.queue_rows() == set()


@pytest.mark.parametrize(
    "statement",
    [
        "update {} set caption = 'new'",
        "update listing_images set image_url = image_url, id = id, listing_id = listing_id",
        "update product_images set src = src, id = id, product_id = product_id",
        "update listings set type = type, id = id",
        "update products set id = id",
        "update listing_images set image_url = 'other' where false",
    ],
)
def test_an_update_that_changes_no_input_queues_nothing(pair: MatchedPair, statement: str) -> None:
    for table in ("listings", "listing_images", "products", "product_images"):
        pair.run(f"alter table {table} add column caption text")
        pair.run(statement.format(table))
    assert pair.queue_rows() == set()
    assert pair.analysed() == {pair.project_image, pair.wares_image}


@pytest.mark.parametrize("url", ["https://new", None])
def test_an_edited_url_queues_its_image_and_keeps_the_old_result_until_then(
    pair: MatchedPair, url: str | None
) -> None:
    pair.run("update listing_images set image_url = %s", url)
    pair.run("update product_images set src = %s", url)
    assert pair.queue_rows() == project_images(pair.project_image) | product_images(pair.wares_image)
    assert pair.analysed() == {pair.project_image, pair.wares_image}


def test_an_upsert_queues_what_is_new_and_what_it_changed(pair: MatchedPair) -> None:
    new, same = uuid4(), pair.listing_image(pair.project, "file:///same")
    pair.settle()
    pair.run(
        """insert into listing_images (id, listing_id, image_url)
        values (%s, %s, 'x'), (%s, %s, 'file:///changed'), (%s, %s, 'file:///same')
        on conflict (id) do update set image_url = excluded.image_url""",
        *(new, pair.project, pair.project_image, pair.project, same, pair.project),
    )
    assert pair.queue_rows() == project_images(new, pair.project_image)


def test_an_image_that_moves_to_another_project_has_both_matched_and_keeps_its_result(
    pair: MatchedPair, work: Callable[[], object]
) -> None:
    other = pair.listing()
    pair.run("update listing_images set listing_id = %s", other)
    work()
    assert pair.queue_rows() == project_images(pair.project_image) | {
        pair.match_project(),
        ("matches_project", "project", other),
    }
    assert pair.analysed() == {pair.project_image, pair.wares_image}


def test_an_image_that_moves_to_another_product_has_both_matched(
    pair: MatchedPair, work: Callable[[], object]
) -> None:
    other = pair.product()
    pair.run("update product_images set product_id = %s", other)
    work()
    assert pair.queue_rows() == product_images(pair.wares_image) | {
        pair.match_wares(),
        ("matches_project", "product", other),
    }


def test_an_image_that_leaves_a_listing_before_it_is_deleted_is_queued(pair: MatchedPair) -> None:
    with pair.connection.transaction():
        pair.run("update listing_images set listing_id = %s", pair.listing())
        pair.run("delete from listings where id = %s", pair.project)
    assert project_images(pair.project_image) <= pair.queue_rows()


def test_results_of_an_image_that_moves_to_another_kind_of_listing_are_deleted(
    pair: MatchedPair, work: Callable[[], object]
) -> None:
    pair.run("update listing_images set listing_id = %s", pair.listing("service"))
    work()
    assert pair.analysed() == {pair.wares_image}
    assert pair.queue_rows() == {pair.match_project()}
    pair.run("update listing_images set listing_id = %s", pair.project)
    assert pair.queue_rows() == project_images(pair.project_image) | {pair.match_project()}


def test_results_of_an_image_without_an_entity_are_deleted(pair: MatchedPair, work: Callable[[], object]) -> None:
    pair.run("alter table listing_images alter listing_id drop not null")
    pair.run("alter table product_images alter product_id drop not null")
    pair.run("update listing_images set listing_id = null")
    pair.run("update product_images set product_id = null")
    work()
    assert pair.analysed() == set()
    assert pair.queue_rows() == {pair.match_project(), pair.match_wares()}
    assert pair.run("select key from matching_pipeline.items") == []


def test_a_deleted_image_of_another_listing_leaves_nothing(app: App, work: Callable[[], object]) -> None:
    image = app.listing_image(app.listing("service"))
    app.run("delete from listing_images where id = %s", image)
    work()
    assert app.queue_rows() == set()


@pytest.mark.parametrize(
    ("statement", "queued", "analysed"),
    [
        ("delete from listing_images", {"match_project"}, {"wares_image"}),
        ("delete from product_images", {"match_project", "match_wares"}, {"project_image"}),
        ("delete from listings", set(), {"wares_image"}),
        ("delete from products", {"match_project"}, {"project_image"}),
        ("truncate listing_images cascade", {"match_project"}, {"wares_image"}),
        ("truncate product_images cascade", {"match_project", "match_wares"}, {"project_image"}),
        ("truncate listings cascade", set(), {"wares_image"}),
        ("truncate products cascade", set(), {"project_image"}),
    ],
)
def test_results_are_deleted_with_their_rows(
    pair: MatchedPair, work: Callable[[], object], statement: str, queued: set[str], analysed: set[str]
) -> None:
    waiting = {pair.listing_image(pair.project), pair.product_image(pair.wares)}
    with pair.connection.transaction():
        pair.run(statement)
        assert {row for row in pair.queue_rows() if row[0] == "matches_project"} == {
            getattr(pair, name)() for name in queued
        }
        assert pair.analysed() == {getattr(pair, name) for name in analysed}
        assert pair.matched() == set()
    work()
    still = set(pair.run("select id from listing_images union all select id from product_images"))
    assert set(pair.run("select key::uuid from matching_pipeline.jobs where kind = 'item'")) == waiting & still


def test_an_image_with_a_new_key_is_analysed_under_it(pair: MatchedPair) -> None:
    one, two = uuid4(), uuid4()
    pair.run("update listing_images set id = %s, image_url = null", one)
    pair.run("update product_images set id = %s", two)
    assert pair.analysed() == set()
    assert pair.queue_rows() == project_images(one) | product_images(two) | {pair.match_project(), pair.match_wares()}


def test_an_entity_with_a_new_key_is_another_entity(pair: MatchedPair, work: Callable[[], object]) -> None:
    waiting = pair.listing_image(pair.project)
    one, two = uuid4(), uuid4()
    pair.run("update listings set id = %s", one)
    pair.run("update products set id = %s", two)
    assert pair.analysed() == set()
    assert pair.matched() == set()
    entities = {("image_ai", "project", one), ("image_ai", "product", two)}
    assert entities < pair.queue_rows()
    work()
    pictures = project_images(waiting, pair.project_image) | product_images(pair.wares_image)
    assert {row for row in pair.queue_rows() if row[0] == "image_ai"} == entities | pictures
    assert pair.run("select key from matching_pipeline.entities order by key") == sorted([str(one), str(two)])


def test_a_rolled_back_transaction_leaves_nothing(pair: MatchedPair) -> None:
    with pair.connection.transaction(force_rollback=True):
        pair.listing_image(pair.project)
        pair.run("delete from products")
    assert pair.queue_rows() == set()
    assert pair.matched() == {pair.project}
    assert pair.analysed() == {pair.project_image, pair.wares_image}


def test_a_role_with_rights_on_the_apps_tables_only_can_do_its_work(pair: MatchedPair) -> None:
    role = f"app_{uuid4().hex}"
    pair.run(f"create role {role}")
    pair.run(f"grant all on listings, listing_images, products, product_images to {role}")
    pair.run(f"set role {role}")
    image = pair.listing_image(pair.project)
    pair.run("update product_images set src = 'new'")
    pair.run("update listings set type = 'draft'")
    pair.run("update listings set type = 'project'")
    pair.run("delete from product_images")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        pair.run("select * from matching_pipeline.jobs")
    pair.run("reset role")
    assert project_images(image) < pair.queue_rows()
    assert pair.matched() == set()


def test_ten_thousand_images_in_one_statement_are_queued_at_once_with_one_notification(
    app: App, database_url: str
) -> None:
    product = app.product()
    with connect(database_url) as listener:
        client.listen(listener)
        started = time.monotonic()
        app.run(
            "insert into product_images (id, product_id, src) "
            "select gen_random_uuid(), %s, 'x' from generate_series(1, 10000)",
            product,
        )
        assert time.monotonic() - started < 10
        assert payloads(listener) == ["image_ai"]
    assert len(app.queue_rows()) == 10_000


def test_a_person_can_queue_all_images_of_one_owner_and_all_that_are_missing(pair: MatchedPair) -> None:
    assert pair.run("select matching_pipeline.enqueue_missing()") == [0]
    assert pair.run("select enqueue_project_images(%s)", pair.project) == [1]
    assert pair.queue_rows() == project_images(pair.project_image)
    assert pair.run("select enqueue_product_images(%s)", pair.wares) == [1]
    assert pair.queue_rows() == project_images(pair.project_image) | product_images(pair.wares_image)


def test_missing_is_what_has_no_up_to_date_result_and_neither_waits_nor_failed(pair: MatchedPair) -> None:
    failed, waiting, lost = (pair.listing_image(pair.project) for _ in range(3))
    pair.run("update product_images set src = 'edited'")
    mirror_picture(pair.connection, "project", lost)
    mirror_picture(pair.connection, "product", pair.wares_image)
    pair.run("delete from matching_pipeline.jobs where key <> all (%s)", [str(failed), str(waiting)])
    pair.run(
        "update matching_pipeline.jobs set status = 'failed', completed_at = now(), error_message = 'x' "
        "where key = %s",
        str(failed),
    )
    assert pair.run("select matching_pipeline.enqueue_missing()") == [2]
    assert pair.queue_rows() == project_images(failed, waiting, lost) | product_images(pair.wares_image)
    assert pair.status(failed)[0] == "failed"
