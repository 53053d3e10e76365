"""Requests for product pictures, by function or by the app's own insert, and what they do to projects.status."""

from datetime import timedelta
from uuid import UUID, uuid4

import psycopg
import pytest

from matching_pipeline.db.connections import connect
from matching_pipeline.db.migrations import migrate
from matching_pipeline.errors import PermanentFailure
from matching_pipeline.queues import client
from matching_pipeline.sources.attach import attach
from matching_pipeline_tests.conftest import EXAMPLES
from matching_pipeline_tests.fixtures.studio import TYPES, PaintGenerator, Studio

ON_THE_MOON = """insert into matching_pipeline.image_types (name, prompt, position)
    values ('on_the_moon', 'On the moon', 7)"""


def jobs(studio: Studio) -> int:
    return int(studio.run("select count(*) from job_queue where queue = 'generated_images'")[0])


def test_a_pending_equal_job_is_the_answer(studio: Studio) -> None:
    project, other = studio.project(), studio.project()
    scale, pack = studio.ask(project, "scale"), studio.ask(project)
    assert studio.ask(project, "scale") == scale
    assert studio.ask(project) == pack
    different = {scale, pack, studio.ask(project, "lifestyle"), studio.ask(project, force=True), studio.ask(other)}
    assert len(different) == jobs(studio) == 5


def test_a_job_in_processing_does_not_answer_a_new_request(studio: Studio) -> None:
    project = studio.project()
    first = studio.ask(project)
    studio.run("select get_next_job()")
    assert studio.ask(project) != first


def test_asking_again_makes_a_job_due_that_waits_for_its_next_attempt(studio: Studio) -> None:
    project = studio.project()
    job = studio.ask(project)
    ((attempt,),) = studio.connection.execute("select attempts from get_next_job()").fetchall()
    assert studio.run("select mark_job_failed(%s, %s, 'no luck')", job, attempt) == [True]
    assert studio.run("select run_at > now() from job_queue") == [True]
    assert studio.ask(project) == job
    assert studio.run("select run_at <= now() from job_queue") == [True]


def test_two_singles_of_different_types_return_to_the_queue_apart(studio: Studio) -> None:
    project = studio.project()
    studio.ask(project, "scale")
    studio.ask(project, "lifestyle")
    claimed = client.claim(studio.connection, "generated_images", 2, timedelta(minutes=1))
    for job in claimed:
        assert client.fail(studio.connection, job, "no luck", permanent=False)
    assert jobs(studio) == 2
    studio.run("update matching_pipeline.jobs set status = 'failed', completed_at = now()")
    assert client.retry(studio.connection, "generated_images") == 2


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("select enqueue_image(%(project)s, 'portrait')", "there is no image type portrait"),
        ("select enqueue_image(%(project)s, null)", "no image type is asked for"),
        ("select enqueue_image(%(unknown)s, 'scale')", "the source studio_project has no entity"),
        ("select enqueue_complete_pack(%(unknown)s)", "the source studio_project has no entity"),
        ("select enqueue_complete_pack(null)", "the source studio_project has no entity null"),
        (
            "insert into job_queue (entity_kind, entity_id) values ('video', %(project)s)",
            "there is no kind of job video, only single and complete_pack",
        ),
        (
            "insert into job_queue (entity_kind, entity_id) values ('single', %(project)s)",
            "no image type is asked for",
        ),
        (
            "insert into job_queue (entity_kind, entity_id, payload) values "
            """('complete_pack', %(project)s, '{"image_types": []}')""",
            "no image type is asked for",
        ),
        (
            "insert into job_queue (entity_kind, entity_id, payload) values ('complete_pack', %(project)s, '[]')",
            r"the payload \[\] is not an object",
        ),
    ],
)
def test_a_request_that_cannot_be_met_is_refused_with_a_reason(studio: Studio, statement: str, message: str) -> None:
    with pytest.raises(psycopg.errors.IntegrityError, match=message):
        studio.connection.execute(statement.encode(), {"project": studio.project(), "unknown": uuid4()})
    assert jobs(studio) == 0


def test_the_app_may_insert_the_row_itself(studio: Studio, database_url: str) -> None:
    project = studio.project()
    with connect(database_url) as listening:
        client.listen(listening)
        job = insert(studio, "single", project, '{"image_type": "scale", "user": "ann", "force": false}')
        assert client.wait_for_work(listening, "generated_images", 5) == "generated_images"
    assert studio.run("select payload from job_queue") == [
        {"image_type": "scale", "image_types": ["scale"], "user": "ann"}
    ]
    insert(studio, "complete_pack", project)
    assert studio.state(project) == "PENDING"
    studio.work(database_url)
    assert studio.job(job) == ("completed", None)
    assert set(studio.pictures(project)) == set(TYPES)


def insert(studio: Studio, kind: str, project: UUID, payload: str = "{}") -> UUID:
    """Inserts a job as the app's API does."""
    (job,) = studio.run(
        "insert into job_queue (entity_kind, entity_id, payload) values (%s, %s, %s) returning id",
        *(kind, project, payload),
    )
    return job  # type: ignore[no-any-return]


def test_a_type_is_added_edited_and_disabled_by_sql_alone(studio: Studio, database_url: str) -> None:
    project = studio.project()
    studio.run(ON_THE_MOON)
    studio.run("update matching_pipeline.image_types set prompt = 'Before a cat' where name = 'lifestyle'")
    studio.run("update matching_pipeline.image_types set enabled = false where name = 'scale'")
    studio.ask(project)
    generator = PaintGenerator()
    studio.work(database_url, generator)
    assert set(studio.pictures(project)) == {*TYPES, "on_the_moon"} - {"scale"}
    assert (generator.prompts["on_the_moon"], generator.prompts["lifestyle"]) == ("On the moon", "Before a cat")
    with pytest.raises(psycopg.errors.IntegrityError, match="there is no image type scale"):
        studio.ask(project, "scale")


def test_a_pack_is_what_it_was_when_it_was_asked_for(studio: Studio, database_url: str) -> None:
    project = studio.project()
    studio.ask(project)
    studio.run(ON_THE_MOON)
    studio.work(database_url)
    assert set(studio.pictures(project)) == set(TYPES)
    assert studio.state(project) == "COMPLETED"
    studio.ask(project)
    studio.work(database_url)
    assert set(studio.pictures(project)) == {*TYPES, "on_the_moon"}


@pytest.mark.parametrize("type_name", ["text", "progress"])
def test_a_status_of_the_apps_own_type_is_written(studio: Studio, database_url: str, type_name: str) -> None:
    studio.run("create type progress as enum ('DRAFT', 'PENDING', 'PROCESSING', 'COMPLETED', 'FAILED')")
    studio.run("alter table projects drop constraint projects_status_allowed, alter column status drop default")
    studio.run(f"alter table projects alter column status type {type_name} using status::{type_name}")
    studio.run(f"alter table projects alter column status set default 'DRAFT'::{type_name}")
    project = studio.project()
    assert studio.state(project) == "DRAFT"
    studio.ask(project, "scale")
    assert studio.state(project) == "PENDING"
    studio.work(database_url)
    assert studio.state(project) == "COMPLETED"


def test_a_status_that_the_app_wrote_stays_until_there_is_something_to_say(studio: Studio, database_url: str) -> None:
    studio.run("alter table projects drop constraint projects_status_allowed")
    project = studio.project()
    studio.ask(project, "scale")
    studio.work(database_url)
    studio.run("update projects set status = 'ARCHIVED'")
    studio.run("select purge_completed_jobs('0 days')")
    assert studio.state(project) == "ARCHIVED"
    studio.ask(project, "lifestyle")
    assert studio.state(project) == "PENDING"


def test_a_trigger_of_the_app_may_ask_for_pictures_of_its_row(studio: Studio, database_url: str) -> None:
    project = studio.project()
    studio.run(
        "create function ask() returns trigger language plpgsql as $$ begin "
        "perform enqueue_complete_pack(new.id); return new; end $$; "
        "create trigger ask before update of id on projects for each row execute function ask()"
    )
    studio.run("update projects set status = 'COMPLETED'")
    studio.run("update projects set id = id")
    assert (studio.state(project), jobs(studio)) == ("COMPLETED", 1)
    studio.publish(database_url)
    assert studio.state(project) == "PENDING"


def test_an_app_never_waits_for_another_that_asks_or_writes(studio: Studio, database_url: str) -> None:
    project = studio.project()
    with connect(database_url) as other, other.transaction():
        other.execute("update projects set status = status where id = %s", (project,))
        other.execute("select enqueue_complete_pack(%s)", (project,))
        studio.run("set lock_timeout = '1s'")
        job = studio.ask(project)
        assert studio.job(job) == ("pending", None)
    assert jobs(studio) == 2


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_asking_above_read_committed_works(studio: Studio, database_url: str, level: str) -> None:
    project = studio.project()
    with connect(database_url) as app, app.transaction():
        app.execute(f"set transaction isolation level {level}".encode())
        app.execute("select count(*) from job_queue")
        studio.run("select get_next_job() from enqueue_complete_pack(%s)", project)
        app.execute("select enqueue_complete_pack(%s)", (project,))
    assert jobs(studio) == 2


def test_the_status_is_true_of_a_job_that_is_snoozed_while_an_equal_one_waits(studio: Studio) -> None:
    project = studio.project()
    job = studio.ask(project)
    studio.run("select get_next_job()")
    assert studio.ask(project) != job
    assert studio.run("select snooze_job(%s, 1, '1 hour', 'the budget is spent')", job) == [True]
    assert studio.run("select status from job_queue") == ["pending"]
    assert studio.state(project) == "PENDING"


def test_the_status_is_true_where_a_failure_is_answered_from_a_photo_that_has_changed_since(
    studio: Studio, database_url: str
) -> None:
    project = studio.project()

    def refuse(image_type: str) -> None:
        raise PermanentFailure("refused")

    def change_photo(image_type: str) -> None:
        studio.run("update projects set source_image_url = %s", studio.photo("red", "red.png"))

    for before, state in ((refuse, "FAILED"), (change_photo, "COMPLETED")):
        studio.ask(project, "scale")
        studio.work(database_url, PaintGenerator(before))
        assert studio.state(project) == state
    assert studio.run("select status from job_queue") == ["completed"]


def test_a_failure_that_a_person_deletes_is_not_the_status_any_more(studio: Studio, database_url: str) -> None:
    project = studio.project()
    studio.ask(project, "scale")
    studio.work(database_url)
    job = studio.ask(project, "lifestyle")
    studio.run("select get_next_job()")
    studio.run("select mark_job_failed(%s, 1, 'refused', permanent => true)", job)
    assert studio.state(project) == "FAILED"
    studio.run("delete from job_queue where id = %s", job)
    assert studio.state(project) == "COMPLETED"


def test_a_type_that_is_gone_keeps_no_other_job_from_being_retried(studio: Studio, database_url: str) -> None:
    studio.run(ON_THE_MOON)
    jobs = [studio.ask(studio.project(), image_type) for image_type in ("on_the_moon", "scale", "lifestyle")]
    studio.run("select get_next_job(batch_size => 3)")
    studio.run("select mark_job_failed(id, attempts, 'refused', permanent => true) from job_queue")
    studio.run("delete from matching_pipeline.image_types where name = 'on_the_moon'")
    studio.run("update matching_pipeline.image_types set enabled = false where name = 'lifestyle'")
    assert studio.run("select retry_jobs('generated_images')") == [3]
    studio.work(database_url)
    assert studio.job(jobs[0]) == ("failed", "on_the_moon: there is no such image type any more")
    assert [studio.job(job)[0] for job in jobs[1:]] == ["completed", "completed"]


def test_jobs_and_pictures_of_a_project_whose_key_changes_are_deleted(studio: Studio, database_url: str) -> None:
    """A key is what a project is: one with another key is another project."""
    project = studio.project()
    studio.ask(project, "scale")
    studio.work(database_url)
    studio.ask(project)
    (renamed,) = studio.run("update projects set id = gen_random_uuid() returning id")
    assert jobs(studio) == 0
    assert studio.pictures(project) == studio.pictures(renamed) == {}
    studio.ask(renamed)
    studio.work(database_url)
    assert set(studio.pictures(renamed)) == set(TYPES)
    assert studio.state(renamed) == "COMPLETED"


def test_the_role_that_an_api_asks_with_needs_no_other_grant(studio: Studio, database_url: str) -> None:
    project = studio.project()
    studio.run("create role service_role bypassrls")
    try:
        migrate(studio.connection)
        attach(studio.connection, EXAMPLES)
        with connect(database_url) as api, api.transaction():
            api.execute("set local role service_role")
            for statement in ("select enqueue_complete_pack(%s)", "select enqueue_image(%s, 'scale')"):
                first, again = (api.execute(statement.encode(), (project,)).fetchone() for _ in range(2))
                assert first == again
            assert api.execute("select count(*) from generated_images, asked_images").fetchone() == (0,)
            inserted = "insert into job_queue (entity_kind, entity_id) values ('complete_pack', %s) returning status"
            assert api.execute(inserted.encode(), (project,)).fetchone() == ("pending",)
    finally:
        studio.run("drop owned by service_role")
        studio.run("drop role service_role")
    assert studio.run("select count(*) from job_queue where queue = 'generated_images'") == [3]


@pytest.mark.parametrize("statement", ["delete from projects", "truncate projects cascade"])
def test_jobs_and_pictures_of_a_deleted_project_are_deleted(
    studio: Studio, database_url: str, statement: str
) -> None:
    project = studio.project()
    studio.ask(project, "scale")
    studio.work(database_url)
    studio.ask(project)
    studio.run(statement)
    assert jobs(studio) == 0
    assert studio.pictures(project) == {}


def test_progress_says_how_far_a_project_is_and_why_not_further(studio: Studio) -> None:
    project = studio.project()
    job = studio.ask(project)
    studio.run("select get_next_job()")
    studio.run("select mark_job_failed(%s, 1, 'refused', permanent => true)", job)
    rows = studio.connection.execute("select * from project_progress").fetchall()
    assert rows == [(project, "FAILED", 0, 0, 1, "refused")]
