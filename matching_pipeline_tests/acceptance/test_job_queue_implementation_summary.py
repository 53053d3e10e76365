"""The field's "Supabase Job Queue Implementation Summary", line by line; each test is named after its line."""

from io import BytesIO
from pathlib import Path
from uuid import UUID

import pytest
from PIL import Image

from matching_pipeline.db.connections import Connection, connect
from matching_pipeline.definitions import defs
from matching_pipeline.errors import TransientFailure
from matching_pipeline.handlers.registry import process_due
from matching_pipeline.pictures.fetch import FetchLimits, ImageFetcher
from matching_pipeline.queues import client
from matching_pipeline.settings import Settings
from matching_pipeline_tests.conftest import EXAMPLES
from matching_pipeline_tests.fixtures.studio import TYPES, PaintGenerator, Studio


@pytest.fixture
def studio(connection: Connection, tmp_path: Path) -> Studio:
    return Studio(connection, tmp_path)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path, image_file_roots=(tmp_path,))


# Completed: the migration, the worker, the endpoint, the routers


def test_the_migration_creates_job_queue_with_all_necessary_fields_and_the_helper_functions(studio: Studio) -> None:
    functions = ("get_next_job", "mark_job_processing", "mark_job_completed", "mark_job_failed")
    assert set(studio.run("select proname from pg_proc where proname = any (%s)", list(functions))) == set(functions)
    fields = {"id", "status", "payload", "attempts", "max_attempts", "error_message", "created_at", "completed_at"}
    assert fields <= set(studio.run("select attname from pg_attribute where attrelid = 'job_queue'::regclass"))


def test_automatic_retry_logic_is_built_into_the_database_functions(studio: Studio, database_url: str) -> None:
    job = studio.ask(studio.project(), "scale")

    def fail(image_type: str) -> None:
        raise TransientFailure("no luck")

    for status in ("pending", "pending", "failed"):
        studio.make_due()
        studio.work(database_url, PaintGenerator(fail))
        assert studio.job(job) == (status, "scale: no luck")


def test_both_single_image_and_complete_pack_generation_are_handled_for_all_6_image_types(
    studio: Studio, database_url: str
) -> None:
    single, pack = studio.project(), studio.project()
    studio.ask(single, "lifestyle")
    studio.ask(pack)
    studio.work(database_url)
    assert set(studio.pictures(single)) == {"lifestyle"}
    assert len(studio.pictures(pack)) == 6
    assert set(studio.run("select name from matching_pipeline.image_types")) == set(TYPES)


def test_the_project_status_goes_from_processing_to_completed(studio: Studio, database_url: str) -> None:
    project = studio.project()
    studio.ask(project)
    seen: list[str] = []
    studio.work(database_url, PaintGenerator(lambda _: seen.append(studio.state(project))))
    assert {*seen} == {"PROCESSING"}
    assert studio.state(project) == "COMPLETED"


@pytest.mark.parametrize("statement", ["select enqueue_image(%s, 'scale')", "select enqueue_complete_pack(%s)"])
def test_generate_and_generate_complete_pack_return_a_job_id_for_tracking(studio: Studio, statement: str) -> None:
    (job,) = studio.run(statement, studio.project())
    assert isinstance(job, UUID)
    assert studio.job(job) == ("pending", None)


# How It Works


def test_a_user_action_inserts_a_job_into_job_queue_and_the_next_pending_job_is_got_within_10_seconds(
    studio: Studio, database_url: str
) -> None:
    assert "generated_images_sensor" in {sensor.name for sensor in defs.get_repository_def().sensor_defs}
    project = studio.project()
    with connect(database_url) as sensor:
        client.listen(sensor)
        studio.run("insert into job_queue (entity_kind, entity_id) values ('complete_pack', %s)", project)
        assert client.wait_for_work(sensor, "generated_images", 10) == "generated_images"
        assert client.queue_state(sensor, "generated_images").due


def test_image_generation_is_processed_and_the_job_marked_as_completed(
    studio: Studio, database_url: str, settings: Settings
) -> None:
    job = studio.ask(studio.project(), "white_background")
    assert process_due(settings, database_url, EXAMPLES, "generated_images").completed == 1
    assert studio.job(job) == ("completed", None)


def test_realtime_sees_one_update_of_the_project_for_each_change(studio: Studio, database_url: str) -> None:
    """Supabase Realtime shows what is written to `projects`: nothing is written that says nothing new."""
    studio.run("create table seen (number serial, status text)")
    studio.run(
        "create function see() returns trigger language plpgsql as "
        "$$ begin insert into seen (status) values (new.status); return null; end $$"
    )
    studio.run("create trigger see after update on projects for each row execute function see()")
    project = studio.project()
    studio.run("update projects set status = 'COMPLETED'")
    studio.ask(project)
    studio.work(database_url)
    assert studio.run("select status from seen order by number") == [
        *("COMPLETED", "PENDING", "PROCESSING", "COMPLETED")
    ]


# Step 5: Test


def test_create_a_project_upload_images_click_generate_complete_pack_check_job_queue_verify_images(
    studio: Studio, database_url: str, settings: Settings
) -> None:
    (project,) = studio.run("insert into projects default values returning id")
    studio.run("update projects set source_image_url = %s where id = %s", studio.photo(), project)
    job = studio.ask(project)
    rows = studio.connection.execute("select id, queue, entity_kind, entity_id, status from job_queue").fetchall()
    assert rows == [(job, "generated_images", "complete_pack", project, "pending")]
    process_due(settings, database_url, EXAMPLES, "generated_images")
    assert studio.job(job) == ("completed", None)
    assert studio.state(project) == "COMPLETED"
    assert client.status(studio.connection, "generated_images")["message"] == "0 jobs pending image generation"
    with ImageFetcher(FetchLimits(file_roots=(studio.folder,))) as fetcher:
        for url in studio.pictures(project).values():
            with Image.open(BytesIO(fetcher.fetch(url))) as picture:
                assert picture.size == (1080, 1080)
    assert set(studio.pictures(project)) == set(TYPES)
