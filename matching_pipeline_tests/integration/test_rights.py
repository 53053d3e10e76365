"""What a role of the app's can and cannot do."""

from collections.abc import Iterator

import psycopg
import pytest

from matching_pipeline.db.connections import Connection
from matching_pipeline.db.migrations import migrate


@pytest.fixture
def as_app(connection: Connection) -> Iterator[Connection]:
    """A session with the rights of a role that may only write the app's tables."""
    connection.execute("create role shop")
    connection.execute(
        "grant select, insert, update, delete on listings, listing_images, products, product_images, profiles, faces "
        "to shop"
    )
    connection.execute("set role shop")
    yield connection
    connection.execute("reset role")
    connection.execute("drop owned by shop")
    connection.execute("drop role shop")


def test_a_trigger_function_cannot_be_put_on_a_table_of_ones_own(as_app: Connection) -> None:
    as_app.execute("create temporary table forged (id uuid)")
    functions = as_app.execute(
        "select distinct tgfoid::regproc::text from pg_trigger join pg_proc on pg_proc.oid = tgfoid "
        "where tgname like any (array['matching\\_pipeline\\_%', 'trigger\\_queue\\_%']) and prosecdef"
    ).fetchall()
    assert len(functions) >= 13
    for (function,) in functions:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            as_app.execute(f"create trigger forged after delete on forged execute function {function}()".encode())


@pytest.mark.parametrize(
    "table",
    [
        "job_queue",
        "match_jobs",
        "image_ai",
        "matches",
        "embedding_models",
        "match_settings",
        "job_embeddings",
        "embedding_queue",
        "ai_calls",
        "ai_answers",
        "ai_asking",
        "generated_images",
        "image_types",
        "rebuilds",
        "rebuild_shards",
    ],
)
def test_the_pipelines_tables_are_closed_to_the_app(as_app: Connection, table: str) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        as_app.execute(f"delete from {table}".encode())


def test_the_app_cannot_pass_for_a_worker(as_app: Connection) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        as_app.execute("select take_worker_slot('image_ai', 2)")


def test_the_apps_writes_queue_work_all_the_same(as_app: Connection) -> None:
    as_app.execute(
        "with product as (insert into products default values returning id) "
        "insert into product_images (product_id, src) select id, 'https://example.com/a.jpg' from product"
    )
    as_app.execute("reset role")
    assert as_app.execute("select queue, entity_kind from job_queue").fetchall() == [("image_ai", "product")]


def test_a_face_of_the_apps_is_queued_and_may_be_asked_for_again(as_app: Connection) -> None:
    as_app.execute("reset role")
    as_app.execute("grant insert on match_jobs to shop")
    as_app.execute("set role shop")
    as_app.execute(
        "with ann as (insert into profiles default values returning id) "
        "insert into faces (user_id, embedding) select id, array_fill(1, array[512])::vector from ann"
    )
    as_app.execute("insert into match_jobs (face_id) select id from faces")
    as_app.execute("reset role")
    assert as_app.execute("select status from match_jobs").fetchall() == [("pending",)]


def test_a_role_of_any_name_that_may_read_the_queue_reads_what_its_request_may(as_app: Connection) -> None:
    as_app.execute("reset role")
    as_app.execute("grant select on match_jobs, job_queue, matches to shop")
    rows = "insert into profiles default values returning id"
    users = [as_app.execute(rows.encode()).fetchall()[0][0] for _ in range(2)]
    for user in users:
        as_app.execute(
            "insert into faces (user_id, embedding) values (%s, array_fill(1, array[512])::vector)", (user,)
        )
    as_app.execute("set role shop")
    seen = "select user_id from match_jobs"
    assert as_app.execute(seen).fetchall() == []
    as_app.execute("select set_config('request.jwt.claim.sub', %s, false)", (str(users[0]),))
    assert as_app.execute(seen).fetchall() == [(users[0],)]
    assert as_app.execute("select * from matches").fetchall() == []


def test_a_schema_that_everybody_may_create_functions_in_is_warned_of(connection: Connection) -> None:
    heard: list[str | None] = []
    connection.add_notice_handler(lambda notice: heard.append(notice.message_primary))
    for grant, warned in (("revoke", False), ("grant", True)):
        connection.execute(f"{grant} create on schema public {'to' if warned else 'from'} public".encode())
        migrate(connection)
        assert any("revoke create on schema public from public" in (told or "") for told in heard) == warned
