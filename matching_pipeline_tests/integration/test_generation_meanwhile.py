"""Product pictures whose project or image type changes while they are made."""

import threading
import time
from uuid import UUID

import pytest

from matching_pipeline.db.connections import connect
from matching_pipeline.pictures.store import PictureStore
from matching_pipeline.sources.orphans import delete_orphan_files
from matching_pipeline_tests.fixtures.pictures import PictureServer, picture
from matching_pipeline_tests.fixtures.studio import TYPES, PaintGenerator, Studio


def test_a_project_that_is_deleted_in_the_middle_gets_nothing_more(studio: Studio, database_url: str) -> None:
    project = studio.project()
    studio.ask(project)

    def delete_at_the_third(image_type: str) -> None:
        if image_type == TYPES[2]:
            studio.run("delete from projects where id = %s", project)
        elif image_type == TYPES[3]:
            wait_until_it_is_let_go(studio, project, TYPES[5])

    generator = PaintGenerator(delete_at_the_third, concurrency=1)
    summary = studio.work(database_url, generator)
    assert summary.counts["failed"] == 0
    assert len(generator.asked) <= 4
    assert studio.run("select count(*) from generated_images") == [0]
    assert studio.run("select count(*) from job_queue") == [0]
    store = PictureStore(studio.made.as_uri())
    assert delete_orphan_files(studio.connection, store) == 0
    studio.grow_old()
    assert delete_orphan_files(studio.connection, store) == len(generator.asked)
    assert not studio.files()


def wait_until_it_is_let_go(studio: Studio, project: UUID, image_type: str) -> None:
    lock = "(matching_pipeline.picture_lock('studio_project', %s, %s))"
    for _ in range(2000):
        if studio.run(f"select pg_try_advisory_lock{lock}", str(project), image_type) == [True]:
            studio.run(f"select pg_advisory_unlock{lock}", str(project), image_type)
            return
        time.sleep(0.01)


@pytest.mark.parametrize("verb", ["completed(%s, 1)", "failed(%s, 1, 'no luck', permanent => true)"])
def test_a_job_that_was_locked_while_its_project_was_deleted_is_deleted_when_it_ends(
    studio: Studio, database_url: str, verb: str
) -> None:
    job = studio.ask(studio.project())
    studio.run("select get_next_job()")
    with connect(database_url) as worker, worker.transaction():
        worker.execute("select from matching_pipeline.jobs for update")
        studio.run("set lock_timeout = '5s'")
        studio.run("delete from projects")
    assert studio.run("select status from job_queue") == ["processing"]
    assert studio.run(f"select mark_job_{verb}", job) == [True]
    assert studio.run("select count(*) from job_queue") == [0]


def test_a_picture_that_was_written_while_its_project_was_deleted_is_deleted_when_the_job_ends(
    studio: Studio, database_url: str
) -> None:
    job = studio.ask(studio.project(), "scale")
    studio.run("select get_next_job()")
    with connect(database_url) as worker, worker.transaction():
        worker.execute(
            "select save_generated_image(%s, 1, 'scale', 'file:///a', 1, 1, 'image/png', 1, 'm', 'url', sha256(''))",
            (job,),
        )
        studio.run("set lock_timeout = '5s'")
        studio.run("delete from projects")
    assert studio.run("select image_type from generated_images") == ["scale"]
    assert studio.run("select mark_job_completed(%s, 1)", job) == [True]
    assert studio.run("select 1 from generated_images") == studio.run("select 1 from job_queue") == []


def test_nothing_is_made_for_a_project_that_is_deleted_while_its_photo_is_fetched(
    studio: Studio, database_url: str
) -> None:
    def delete() -> None:
        studio.run("delete from projects")

    server = PictureServer()
    url = server.put("/photo.png", picture("teal"), before=delete)
    studio.ask(studio.project(url))
    generator = PaintGenerator()
    studio.work(database_url, generator)
    assert server.asked == {"/photo.png": 1}
    assert not generator.asked


def test_a_type_that_is_renamed_in_the_middle_fails_with_a_reason(studio: Studio, database_url: str) -> None:
    job = studio.ask(studio.project(), "scale")

    def rename(image_type: str) -> None:
        studio.run("update matching_pipeline.image_types set name = 'size' where name = 'scale'")

    studio.work(database_url, PaintGenerator(rename))
    assert "the database refuses its row" in str(studio.job(job)[1])
    studio.make_due()
    studio.work(database_url)
    assert studio.job(job) == ("failed", "scale: there is no such image type any more")


def test_a_worker_whose_lease_ran_out_writes_no_row(studio: Studio, database_url: str) -> None:
    project = studio.project()
    studio.ask(project, "scale")

    def lose_lease(image_type: str) -> None:
        studio.run("update matching_pipeline.jobs set attempts = attempts + 1")

    assert studio.work(database_url, PaintGenerator(lose_lease)).counts["lost"] == 1
    assert studio.pictures(project) == {}


def test_an_app_that_locks_its_project_is_not_in_the_way(studio: Studio, database_url: str) -> None:
    project = studio.project()
    studio.ask(project)
    with connect(database_url) as app, app.transaction():
        app.execute("update projects set source_image_url = source_image_url where id = %s", (project,))
        assert studio.work(database_url).counts["snoozed"] >= 1
        assert set(studio.pictures(project)) == set(TYPES)
        app.execute("select enqueue_image(%s, 'scale')", (project,))
    studio.make_due()
    generator = PaintGenerator()
    studio.work(database_url, generator)
    assert not generator.asked
    assert studio.state(project) == "COMPLETED"


def test_a_picture_whose_row_the_app_locks_while_it_is_made_again_counts_no_attempt(
    studio: Studio, database_url: str
) -> None:
    project = studio.project()
    studio.ask(project, "scale")
    studio.work(database_url)
    studio.run("select purge_completed_jobs('0 days')")
    job = studio.ask(project, "scale", force=True)
    with connect(database_url) as app:

        def hold(image_type: str) -> None:
            app.execute("begin")
            app.execute("select from matching_pipeline.generated_images for update")

        assert studio.work(database_url, PaintGenerator(hold)).counts["snoozed"] == 1
    assert studio.job(job) == ("pending", "scale: its rows are locked")
    assert studio.run("select attempts - snoozes from job_queue") == [0]


def test_a_picture_whose_row_the_app_locks_while_its_photo_moves_counts_no_attempt(
    studio: Studio, database_url: str
) -> None:
    project = studio.project()
    studio.ask(project, "scale")
    studio.work(database_url)
    studio.run("update projects set source_image_url = %s", studio.photo(name="moved.png"))
    job = studio.ask(project, "scale")
    with connect(database_url) as app, app.transaction():
        app.execute("set local idle_in_transaction_session_timeout = '30s'")
        app.execute("select from matching_pipeline.generated_images for update")
        assert studio.work(database_url).counts["snoozed"] == 1
    assert studio.job(job) == ("pending", "photo: its rows are locked")
    studio.make_due()
    generator = PaintGenerator()
    studio.work(database_url, generator)
    assert not generator.asked
    assert studio.job(job) == ("completed", None)


def test_a_told_stop_does_not_wait_for_a_whole_queue(studio: Studio, database_url: str) -> None:
    for _ in range(3):
        studio.ask(studio.project(), "scale")
    begun = threading.Event()

    def stop(image_type: str) -> None:
        if not begun.is_set():
            begun.set()
            studio.run("select pg_notify('matching_pipeline_jobs', 'stop')")

    summary = studio.work(database_url, PaintGenerator(stop, concurrency=1))
    assert summary.stopped_because == "it was told to stop"
    assert summary.completed == 1
