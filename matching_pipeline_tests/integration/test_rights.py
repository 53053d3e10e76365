"""What a role of the app's can and cannot do."""

from collections.abc import Iterator

import psycopg
import pytest

from matching_pipeline.db.connections import Connection
from matching_pipeline.db.migrations import migrate
from matching_pipeline.sources.attach import attach
from matching_pipeline_tests.conftest import EXAMPLES
from matching_pipeline_tests.fixtures.app import MatchedPair
from matching_pipeline_tests.fixtures.studio import Studio


@pytest.fixture
def shop(connection: Connection) -> Iterator[Connection]:
    """A session of the owner. There is a role `shop`, which may only write the app's tables."""
    connection.execute("create role shop")
    connection.execute(
        "grant select, insert, update, delete on listings, listing_images, products, product_images, profiles, "
        "faces, projects, public.jobs to shop"
    )
    yield connection
    connection.execute("reset role")
    connection.execute("drop owned by shop")
    connection.execute("drop role shop")


@pytest.fixture
def as_app(shop: Connection) -> Connection:
    """A session with the rights of that role."""
    shop.execute("set role shop")
    return shop


@pytest.fixture
def as_insider(shop: Connection) -> Connection:
    """The same, of a role that may also name what is in our schema."""
    shop.execute("grant usage on schema matching_pipeline to shop")
    shop.execute("set role shop")
    return shop


def test_a_trigger_function_cannot_be_put_on_a_table_of_ones_own(as_insider: Connection) -> None:
    as_insider.execute("create temporary table forged (id uuid)")
    functions = as_insider.execute(
        "select oid::regproc::text from pg_proc where prorettype = 'trigger'::regtype and prosecdef"
    ).fetchall()
    assert len(functions) >= 17
    for (function,) in functions:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            as_insider.execute(f"create trigger forged after delete on forged execute function {function}()".encode())


def test_the_pipelines_tables_and_views_are_closed_to_the_app(as_insider: Connection) -> None:
    relations = as_insider.execute(
        """select oid::regclass::text, relkind from pg_class
        where relkind in ('r', 'v') and (
            relnamespace = 'matching_pipeline'::regnamespace
            or obj_description(oid, 'pg_class') = 'exposed by matching_pipeline'
        )"""
    ).fetchall()
    assert len(relations) > 25
    for name, kind in relations:
        for verb in ("select from", "delete from") if kind == "r" else ("select from",):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                as_insider.execute(f"{verb} {name}".encode())


@pytest.mark.parametrize(
    "call",
    [
        "attach_source('{}', '{}', '{}')", "detach_source('face')", "read_source('face', 'entity', '{}')",
        "children_of('face', '{}')", "source_keys('face', '', 1)", "take_worker_slot('image_ai', 2)",
        "enqueue_jobs('image_ai', 'face', 'entity', '{}')", "enqueue_entity('product', 'a')", "get_next_job()",
        "request_pictures('generated_images', 'studio_project', 'single', 'a', '{}')", "find_similar('posting', 'a')",
        "find_similar_images('product', 'a')", "find_similar_images('product', '[1]'::vector)",
    ],
)  # fmt: skip
def test_the_app_cannot_pass_for_the_owner_or_a_worker(as_insider: Connection, call: str) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="permission denied for function"):
        as_insider.execute(f"select matching_pipeline.{call}".encode())


@pytest.mark.parametrize(
    "statement",
    [
        "insert into job_queue (entity_kind, entity_id) values ('complete_pack', %(project)s)",
        "select enqueue_complete_pack(%(project)s)",
        "select enqueue_image(%(project)s, 'scale')",
        "select enqueue_project_images(%(project)s)",
        "select get_next_job()",
    ],
)
def test_who_may_write_a_project_cannot_spend_money_on_it(as_app: Connection, statement: str) -> None:
    ((project,),) = as_app.execute("insert into projects default values returning id").fetchall()
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        as_app.execute(statement.encode(), {"project": project})


def test_the_apps_writes_queue_work_all_the_same(as_app: Connection) -> None:
    as_app.execute(
        "with product as (insert into products default values returning id) "
        "insert into product_images (product_id, src) select id, 'https://example.com/a.jpg' from product"
    )
    as_app.execute("reset role")
    assert as_app.execute("select queue, entity_kind from job_queue").fetchall() == [("image_ai", "product")]


def test_a_face_of_the_apps_is_queued_and_may_be_asked_for_again(shop: Connection) -> None:
    shop.execute("grant insert on match_jobs to shop")
    shop.execute("set role shop")
    shop.execute(
        "with ann as (insert into profiles default values returning id) "
        "insert into faces (user_id, embedding) select id, array_fill(1, array[512])::vector from ann"
    )
    shop.execute("insert into match_jobs (face_id) select id from faces")
    shop.execute("reset role")
    assert shop.execute("select status from match_jobs").fetchall() == [("pending",)]


def test_an_api_asks_for_pictures_with_one_right(shop: Connection, studio: Studio) -> None:
    """To a function, or to a view."""
    project = studio.project()
    shop.execute("grant usage on schema matching_pipeline to shop")
    shop.execute("grant execute on function matching_pipeline.request_pictures to shop")
    shop.execute("grant select, insert on job_queue to shop")
    shop.execute("set role shop")
    (asked,) = shop.execute("select enqueue_complete_pack(%s)", (project,)).fetchall()
    assert shop.execute("select enqueue_complete_pack(%s)", (project,)).fetchall() == [asked]
    inserted = """insert into job_queue (entity_kind, entity_id, payload)
        values ('single', %s, '{"image_type": "scale"}')
        returning queue, entity_kind, entity_id, payload, status, attempts, max_attempts"""
    assert shop.execute(inserted.encode(), (project,)).fetchall() == [
        ("generated_images", "single", project, {"image_type": "scale", "image_types": ["scale"]}, "pending", 0, 3)
    ]
    shop.execute("reset role")
    assert studio.run("select count(*) from job_queue") == [2]


def test_a_users_role_of_any_name_reads_what_its_request_may(shop: Connection) -> None:
    shop.execute("create role authenticated")
    try:
        migrate(shop)
        attach(shop, EXAMPLES)
        shop.execute("grant authenticated to shop")
        rows = "insert into profiles default values returning id"
        users = [shop.execute(rows.encode()).fetchall()[0][0] for _ in range(2)]
        shop.execute(
            "insert into faces (user_id, embedding) select id, array_fill(1, array[512])::vector from profiles"
        )
        shop.execute("set role shop")
        seen = "select user_id from match_jobs"
        assert shop.execute(seen).fetchall() == []
        shop.execute("select set_config('request.jwt.claim.sub', %s, false)", (str(users[0]),))
        assert shop.execute(seen).fetchall() == [(users[0],)]
        assert shop.execute("select * from matching_pipeline.matches").fetchall() == []
    finally:
        shop.execute("reset role")
        shop.execute("drop owned by authenticated")
        shop.execute("drop role authenticated")


def test_the_app_labels_pairs_with_one_grant_and_labels_outlive_their_pairs(shop: Connection) -> None:
    pair = MatchedPair(shop)
    shop.execute("create role service_role bypassrls")
    try:
        migrate(shop)
        shop.execute("set role service_role")
        like = """insert into matching_pipeline.match_labels (matcher, left_key, right_key, verdict)
            values ('project', %s, %s, %s)
            on conflict on constraint match_labels_pkey do update set verdict = excluded.verdict, at = now()"""
        for verdict in (1, 3):
            shop.execute(like.encode(), (str(pair.project), str(pair.wares), verdict))
        with pytest.raises(psycopg.errors.CheckViolation, match="match_labels_verdict_range"):
            shop.execute(like.encode(), (str(pair.project), str(pair.wares), 4))
        shop.execute("reset role")
        pair.run("delete from listings")
        assert pair.matched() == set()
        labels = "select left_key, verdict, by from matching_pipeline.match_labels"
        assert shop.execute(labels.encode()).fetchall() == [(str(pair.project), 3, "service_role")]
    finally:
        shop.execute("reset role")
        shop.execute("drop owned by service_role; drop role service_role")


GRANTS = (
    "grant select, insert on job_queue to shop",
    "grant select (id) on matching_pipeline.jobs to shop with grant option",
    "grant select on generated_images, matching_pipeline.generated_images to shop",
    "grant execute on function matching_pipeline.request_pictures, enqueue_image to shop",
    "create policy of_the_shop on matching_pipeline.generated_images for select to shop using (true)",
    "revoke execute on function retry_jobs from public",
)
RIGHTS = b"""
    select relname, relacl::text, array(select polname::text from pg_policy where polrelid = pg_class.oid order by 1)
    from pg_class where relnamespace in ('public'::regnamespace, 'matching_pipeline'::regnamespace)
    union all
    select attrelid::regclass::text || attname, attacl::text, '{}' from pg_attribute where attacl is not null
    union all
    select oid::regprocedure::text, proacl::text, '{}' from pg_proc
    where pronamespace in ('public'::regnamespace, 'matching_pipeline'::regnamespace)
    order by 1, 2, 3
"""


def test_what_the_owner_granted_stays_when_our_schema_is_brought_up_to_date(shop: Connection) -> None:
    for grant in GRANTS:
        shop.execute(grant.encode())
    before = shop.execute(RIGHTS).fetchall()
    migrate(shop)
    attach(shop, EXAMPLES)
    assert shop.execute(RIGHTS).fetchall() == before


def test_what_the_owner_granted_stays_where_a_view_or_function_is_made_again(shop: Connection) -> None:
    """As when the app gives a key another type."""
    for grant in GRANTS:
        shop.execute(grant.encode())
    granted = b"""
        select relname, relacl::text from pg_class where oid = 'public.generated_images'::regclass
        union all
        select proname, proacl::text from pg_proc where proname = 'enqueue_image'
    """
    before = shop.execute(granted).fetchall()
    assert all("shop" in rights for _, rights in before)
    shop.execute(
        "drop table projects; create table projects (id bigint primary key, source_image_url text, status text)"
    )
    attach(shop, EXAMPLES)
    assert shop.execute("select pg_typeof(max(project_id))::text from generated_images").fetchone() == ("bigint",)
    signatures = "select oid::regprocedure::text from pg_proc where proname = 'enqueue_image'"
    assert shop.execute(signatures.encode()).fetchall() == [("enqueue_image(bigint,text,boolean)",)]
    assert shop.execute(granted).fetchall() == before


def test_a_schema_that_everybody_may_create_functions_in_is_warned_of(connection: Connection) -> None:
    heard: list[str | None] = []
    connection.add_notice_handler(lambda notice: heard.append(notice.message_primary))
    for grant, warned in (("revoke", False), ("grant", True)):
        connection.execute(f"{grant} create on schema public {'to' if warned else 'from'} public".encode())
        migrate(connection)
        assert any("revoke create on schema public from public" in (told or "") for told in heard) == warned
