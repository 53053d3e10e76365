"""What a role of the app's can and cannot do."""

from collections.abc import Iterator

import psycopg
import pytest

from matching_pipeline.db.connections import Connection

TRIGGER_FUNCTIONS = (
    "listings_changed", "listing_images_changed", "products_changed", "product_images_changed",
    "image_ai_changed", "matches_lost", "match_settings_changed", "jobs_changed",
    "embedding_queue_written", "generation_asked", "generation_job_changed", "projects_changed",
)  # fmt: skip


@pytest.fixture
def as_app(connection: Connection) -> Iterator[Connection]:
    """A session with the rights of a role that may only write the app's tables."""
    connection.execute("create role shop")
    connection.execute(
        "grant select, insert, update, delete on listings, listing_images, products, product_images to shop"
    )
    connection.execute("set role shop")
    yield connection
    connection.execute("reset role")
    connection.execute("drop owned by shop")
    connection.execute("drop role shop")


@pytest.mark.parametrize("function", TRIGGER_FUNCTIONS)
def test_a_trigger_function_cannot_be_put_on_a_table_of_ones_own(as_app: Connection, function: str) -> None:
    as_app.execute("create temporary table forged (id uuid)")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        as_app.execute(
            f"create trigger forged after delete on forged for each statement execute function {function}()".encode()
        )


@pytest.mark.parametrize(
    "table",
    [
        *("job_queue", "image_ai", "matches", "embedding_models", "match_settings", "job_embeddings"),
        *("embedding_queue", "generated_images", "image_types"),
    ],
)
def test_the_pipelines_tables_are_closed_to_the_app(as_app: Connection, table: str) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        as_app.execute(f"delete from {table}".encode())


def test_the_app_cannot_pass_for_a_drain(as_app: Connection) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        as_app.execute("select take_drain_slot('image_ai', 2)")


def test_the_apps_writes_queue_work_all_the_same(as_app: Connection) -> None:
    as_app.execute(
        "with product as (insert into products default values returning id) "
        "insert into product_images (product_id, src) select id, 'https://example.com/a.jpg' from product"
    )
    as_app.execute("reset role")
    assert as_app.execute("select queue, entity_kind from job_queue").fetchall() == [("image_ai", "product")]
