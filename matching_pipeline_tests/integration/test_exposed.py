"""The views and functions in a schema of the app's: its own names, writes through ours, and changes of its tables."""

from uuid import uuid4

import psycopg
import pytest

from matching_pipeline.db.connections import Connection
from matching_pipeline.sources.attach import attach
from matching_pipeline_tests.conftest import EXAMPLES
from matching_pipeline_tests.fixtures.studio import Studio

TAKEN = """
drop view public.image_ai;
drop function public.get_next_job, public.enqueue_image;
create view public.image_ai as select 1 as mine;
create function public.get_next_job(shop integer) returns integer language sql as 'select 1';
create function public.enqueue_image(project uuid, image_type text, force boolean default false) returns uuid
    language sql as 'select project';
"""


@pytest.fixture
def heard(connection: Connection) -> list[str | None]:
    """The warnings that the session received."""
    heard: list[str | None] = []
    connection.add_notice_handler(lambda notice: heard.append(notice.message_primary))
    return heard


def test_a_name_that_the_app_has_is_left_to_it_and_attach_says_so(
    connection: Connection, heard: list[str | None]
) -> None:
    connection.execute(TAKEN)
    attach(connection, EXAMPLES)
    assert {told for told in heard if told and "is not made" in told} == {
        "public.image_ai is not made: the app has a relation of that name",
        "public.get_next_job is not made: the app has a function of that name",
        "public.enqueue_image is not made: the app has a function of that name",
    }
    project = uuid4()
    own = connection.execute("select * from image_ai, get_next_job(1), enqueue_image(%s, '')", (project,))
    assert own.fetchall() == [(1, 1, project)]
    assert connection.execute("select count(*) from generated_images, job_queue").fetchone() == (0,)


def test_a_name_that_becomes_free_is_ours_from_the_next_attach_on(
    connection: Connection, heard: list[str | None]
) -> None:
    connection.execute(TAKEN)
    attach(connection, EXAMPLES)
    connection.execute("drop view public.image_ai; drop function get_next_job, enqueue_image")
    heard.clear()
    attach(connection, EXAMPLES)
    assert heard == []
    assert connection.execute("select count(image_id) from image_ai, get_next_job()").fetchone() == (0,)


def test_a_job_that_is_inserted_is_returned_as_it_is(studio: Studio) -> None:
    (image,) = studio.run(
        "with product as (insert into products default values returning id) "
        "insert into product_images (product_id, src) select id, 'file:///given' from product returning id"
    )
    studio.settle()
    given = {
        "id": uuid4(), "queue": "image_ai", "entity_kind": "product", "entity_id": image, "max_attempts": 7,
    }  # fmt: skip
    names = ", ".join(given)
    returned = studio.connection.execute(
        f"insert into job_queue ({names}) values ({', '.join(['%s'] * len(given))}) returning *".encode(),
        list(given.values()),
    ).fetchall()
    assert returned == studio.connection.execute("select * from job_queue").fetchall()
    assert studio.connection.execute(f"select {names} from job_queue".encode()).fetchall() == [tuple(given.values())]
    # as the trigger of the app's table would have queued it
    assert studio.run("select kind from matching_pipeline.jobs") == ["item"]
    studio.run("update matching_pipeline.jobs set run_at = now() + interval '1 hour'")
    studio.run("update product_images set src = 'file:///other'")
    assert studio.run("select id from job_queue where run_at <= now()") == [given["id"]]


@pytest.mark.parametrize(("queue", "source"), [("nothing", "product"), ("image_ai", "nothing"), ("image_ai", None)])
def test_a_job_of_no_queue_or_source_is_refused(studio: Studio, queue: str, source: str | None) -> None:
    with pytest.raises(psycopg.errors.ForeignKeyViolation, match="there is no queue"):
        studio.run(
            "insert into job_queue (queue, entity_kind, entity_id) values (%s, %s, gen_random_uuid())", queue, source
        )


def test_a_job_is_updated_and_deleted_through_the_view(studio: Studio) -> None:
    job = studio.ask(studio.project())
    studio.run("select get_next_job()")
    studio.run("select mark_job_failed(%s, 1, 'refused', permanent => true)", job)
    updated = studio.connection.execute(
        "update job_queue set status = 'pending', completed_at = null, error_message = null, max_attempts = 5 "
        "where id = %s returning status, max_attempts, entity_kind",
        (job,),
    )
    assert updated.fetchall() == [("pending", 5, "complete_pack")]
    assert studio.run("delete from job_queue where id = %s returning id", job) == [job]
    assert studio.run("select 1 from matching_pipeline.jobs") == []


@pytest.mark.parametrize(
    "change",
    [
        "alter table projects drop constraint projects_status_allowed, alter status type varchar(20)",
        "alter table projects alter id type text",
        "alter table faces alter user_id type text using user_id::text",
        "alter table listing_images drop image_url",
        "drop table projects, faces, profiles, public.jobs, listings, listing_images, products, product_images",
    ],
)
def test_no_view_hinders_a_change_of_the_apps_tables(connection: Connection, change: str) -> None:
    if "user_id" in change:
        connection.execute("alter table faces drop constraint faces_user_id_fkey")
    # the app's own policy
    connection.execute("drop policy matches_of_own_faces on matches")
    connection.execute(change.encode())


def test_the_pictures_of_a_project_are_found_by_an_index(studio: Studio) -> None:
    studio.run(
        """insert into matching_pipeline.generated_images
            (source, key, image_type, url, width, height, media_type, bytes, model, source_url, source_hash)
        select 'studio_project', gen_random_uuid(), 'scale', 'file:///made', 1, 1, 'image/png', 1, 'm', '', sha256('')
        from generate_series(1, 5000)"""
    )
    studio.run("analyze matching_pipeline.generated_images")
    plan = "\n".join(studio.run("explain select * from generated_images where project_id = gen_random_uuid()"))
    plan += "\n".join(studio.run(f"explain select * from generated_images where project_id = '{uuid4()}'"))
    assert "generated_images_studio_project_key_idx" in plan


def test_keys_of_another_type_are_not_refused_by_an_index_of_the_former(studio: Studio) -> None:
    studio.run("drop table projects")
    studio.run("create table projects (id bigint primary key, source_image_url text, status text)")
    attach(studio.connection, EXAMPLES)
    studio.run("insert into projects (id, source_image_url) values (7, 'file:///given')")
    job = studio.run("select enqueue_image(7, 'scale')")[0]
    studio.run("select get_next_job()")
    saved = "select save_generated_image(%s, 1, 'scale', 'file:///made', 1, 1, 'image/png', 1, 'm', '', sha256(''))"
    assert studio.run(saved, job) == [True]
    assert studio.run("select project_id from generated_images") == [7]


def test_matchers_may_share_a_column_of_the_view(connection: Connection) -> None:
    connection.execute("drop table matches")
    matches = EXAMPLES.matches[0]
    matchers = [each.model_copy(update={"publish": None}) for each in matches.matchers]
    wanted = matchers[0].model_copy(update={"name": "wanted", "columns": ("project_id", "wanted_id")})
    shared = matches.model_copy(update={"matchers": (*matchers, wanted)})
    attach(connection, EXAMPLES.model_copy(update={"matches": (shared,)}))
    cursor = connection.execute("select * from matches")
    names = [column.name for column in cursor.description or ()]
    assert names == [
        *("id", "kind", "project_id", "product_id", "project_image_id", "product_image_id", "face_a_id", "face_b_id"),
        *("wanted_id", "wanted_image_id", "rank", "rank_for_a", "rank_for_b", "similarity", "model", "computed_at"),
    ]


def test_similar_texts_are_found_without_a_view_of_their_queue(connection: Connection) -> None:
    connection.execute("drop view embedding_queue; drop function find_similar_jobs")
    texts = EXAMPLES.texts[0].model_copy(update={"queue_view": None})
    attach(connection, EXAMPLES.model_copy(update={"texts": (texts,)}))
    assert connection.execute("select * from find_similar_jobs(gen_random_uuid())").fetchall() == []
    assert connection.execute("select to_regclass('embedding_queue')").fetchone() == (None,)


def test_a_job_for_parents_of_a_source_that_has_none_is_a_fault_of_the_source(connection: Connection) -> None:
    with pytest.raises(psycopg.errors.UndefinedObject, match="the source posting has no rows of the kind parent"):
        connection.execute("select matching_pipeline.children_of('posting', array['1'])")
