"""Product pictures where something is wrong: with the photo, the provider, the place of storage, or the timing."""

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest

from matching_pipeline.db.connections import Connection, connect
from matching_pipeline.failures import (
    ConfigurationError,
    PermanentFailure,
    ProviderUnavailable,
    TransientFailure,
)
from matching_pipeline.images import picture_folder
from matching_pipeline.images.picture_store import PictureStore
from matching_pipeline.stages.requests import forget_orphan_pictures
from matching_pipeline_tests.fixtures.pictures import PictureServer, picture
from matching_pipeline_tests.fixtures.studio import TYPES, PaintGenerator, Studio


@pytest.fixture
def studio(connection: Connection, tmp_path: Path) -> Studio:
    return Studio(connection, tmp_path)


def raising(error: Exception, *types: str) -> Callable[[str], None]:
    def before(image_type: str) -> None:
        if image_type in types:
            raise error

    return before


@pytest.mark.parametrize("url", [None, "", "  "])
def test_a_project_without_a_photo_fails_at_once_and_says_so(
    studio: Studio, database_url: str, url: str | None
) -> None:
    project = studio.project()
    studio.run("update projects set source_image_url = %s", url)
    job = studio.ask(project)
    studio.drain(database_url)
    assert studio.job(job) == ("failed", "photo: the project has none: its source_image_url is empty")
    assert studio.state(project) == "FAILED"


def test_a_photo_that_is_gone_or_broken_fails_at_once(studio: Studio, database_url: str) -> None:
    (studio.folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    gone = studio.project((studio.folder / "gone.png").as_uri())
    broken = studio.project((studio.folder / "broken.png").as_uri())
    jobs = [studio.ask(gone), studio.ask(broken)]
    generator = PaintGenerator()
    studio.drain(database_url, generator)
    assert [studio.job(job)[0] for job in jobs] == ["failed", "failed"]
    assert "no such file" in str(studio.job(jobs[0])[1])
    assert "PNG" in str(studio.job(jobs[1])[1])
    assert not generator.asked


def test_a_photo_that_is_out_of_reach_is_tried_again(studio: Studio, database_url: str) -> None:
    project = studio.project("http://127.0.0.1:1/photo.jpg")
    job = studio.ask(project)
    studio.drain(database_url)
    status, reason = studio.job(job)
    assert status == "pending"
    assert "127.0.0.1" in str(reason)
    assert studio.state(project) == "PENDING"
    for _ in range(2):
        studio.make_due()
        studio.drain(database_url)
    assert studio.job(job)[0] == "failed"
    assert studio.state(project) == "FAILED"


def test_a_picture_that_the_provider_refuses_fails_alone_and_is_retried_alone(
    studio: Studio, database_url: str
) -> None:
    project = studio.project()
    job = studio.ask(project)
    refusing = PaintGenerator(raising(PermanentFailure("against the content policy"), "lifestyle"))
    studio.drain(database_url, refusing)
    assert studio.job(job) == ("failed", "lifestyle: against the content policy")
    assert studio.state(project) == "FAILED"
    kept = studio.pictures(project)
    assert set(kept) == {*TYPES} - {"lifestyle"}
    studio.run("select retry_jobs('generated_images')")
    assert studio.state(project) == "PENDING"
    generator = PaintGenerator()
    studio.drain(database_url, generator)
    assert generator.asked == ["lifestyle"]
    assert studio.state(project) == "COMPLETED"
    assert kept.items() <= studio.pictures(project).items()


def test_a_failure_that_another_request_answers_leaves(studio: Studio, database_url: str) -> None:
    project = studio.project()
    studio.ask(project)
    studio.drain(database_url, PaintGenerator(raising(PermanentFailure("refused"), "scale", "lifestyle")))
    studio.ask(project, "scale")
    studio.drain(database_url)
    assert studio.state(project) == "FAILED"
    studio.ask(project, "lifestyle")
    studio.drain(database_url)
    assert studio.state(project) == "COMPLETED"
    assert studio.run("select distinct status from job_queue") == ["completed"]


def test_a_hiccup_and_a_refusal_together_are_tried_again(studio: Studio, database_url: str) -> None:
    job = studio.ask(studio.project())

    def before(image_type: str) -> None:
        raising(PermanentFailure("refused"), "scale")(image_type)
        raising(TransientFailure("hiccup"), "lifestyle")(image_type)

    studio.drain(database_url, PaintGenerator(before))
    status, reason = studio.job(job)
    assert status == "pending"
    assert {*str(reason).split("; ")} == {"scale: refused", "lifestyle: hiccup"}


def test_a_provider_that_is_down_charges_nobody_and_what_was_made_stays(studio: Studio, database_url: str) -> None:
    project = studio.project()
    job = studio.ask(project)
    down = ProviderUnavailable("it is down", timedelta(minutes=1))
    with pytest.raises(ProviderUnavailable, match="it is down"):
        studio.drain(database_url, PaintGenerator(raising(down, TYPES[2]), concurrency=1))
    made = set(studio.pictures(project))
    assert made >= set(TYPES[:2])
    assert TYPES[2] not in made
    assert studio.job(job) == ("pending", "it is down")
    assert studio.run("select attempts - deferrals from job_queue where run_at > now() + interval '50 s'") == [0]
    studio.make_due()
    generator = PaintGenerator()
    studio.drain(database_url, generator)
    assert sorted(generator.asked) == sorted({*TYPES} - made)


def test_a_place_that_is_forbidden_is_found_before_anything_is_paid_for(studio: Studio, database_url: str) -> None:
    studio.made.write_text("a file where the folder should be")
    job = studio.ask(studio.project())
    generator = PaintGenerator()
    with pytest.raises(ConfigurationError, match="IMAGES_URL"):
        studio.drain(database_url, generator)
    assert not generator.asked
    assert studio.job(job)[0] == "pending"


def test_a_place_that_is_full_defers_the_lane_before_anything_is_paid_for(
    studio: Studio, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(picture_folder, "_write_through", full)
    project = studio.project()
    job = studio.ask(project)
    generator = PaintGenerator()
    with pytest.raises(ProviderUnavailable, match="No space left on device"):
        studio.drain(database_url, generator)
    assert not generator.asked
    assert studio.run("select attempts - deferrals from job_queue") == [0]
    assert "No space left" in str(studio.job(job)[1])
    monkeypatch.undo()
    studio.make_due()
    studio.drain(database_url, generator)
    assert studio.state(project) == "COMPLETED"


def test_a_place_that_fills_up_in_the_middle_keeps_what_was_stored(
    studio: Studio, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = studio.project()
    studio.ask(project)
    store = PictureStore(studio.made.as_uri())
    put = store.put

    def put_three(data: bytes, extension: str) -> str:
        if len(studio.files()) == 3:
            raise ProviderUnavailable("IMAGES_URL: full", timedelta(minutes=2))
        return put(data, extension)

    monkeypatch.setattr(store, "put", put_three)
    with pytest.raises(ProviderUnavailable):
        studio.drain(database_url, PaintGenerator(concurrency=1), store)
    assert set(studio.pictures(project).values()) == studio.files()
    assert len(studio.files()) == 3


def test_a_project_that_is_deleted_in_the_middle_gets_nothing_more(studio: Studio, database_url: str) -> None:
    project = studio.project()
    studio.ask(project)

    def delete_at_the_third(image_type: str) -> None:
        if image_type == TYPES[2]:
            studio.run("delete from projects where id = %s", project)
        elif image_type == TYPES[3]:
            wait_until_it_is_let_go(studio, project, TYPES[5])

    generator = PaintGenerator(delete_at_the_third, concurrency=1)
    summary = studio.drain(database_url, generator)
    assert summary.counts["failed"] == 0
    assert len(generator.asked) <= 4
    assert studio.run("select count(*) from generated_images") == [0]
    assert studio.run("select count(*) from job_queue") == [0]
    store = PictureStore(studio.made.as_uri())
    assert forget_orphan_pictures(studio.connection, store) == 0
    grow_old(studio)
    assert forget_orphan_pictures(studio.connection, store) == len(generator.asked)
    assert not studio.files()


def wait_until_it_is_let_go(studio: Studio, project: UUID, image_type: str) -> None:
    lock = "(picture_lock(%s, %s))"
    for _ in range(2000):
        if studio.run(f"select pg_try_advisory_lock{lock}", project, image_type) == [True]:
            studio.run(f"select pg_advisory_unlock{lock}", project, image_type)
            return
        time.sleep(0.01)


@pytest.mark.parametrize("verb", ["completed(%s, 1)", "failed(%s, 1, 'no luck', permanent => true)"])
def test_a_job_that_was_locked_while_its_project_was_deleted_leaves_when_it_ends(
    studio: Studio, database_url: str, verb: str
) -> None:
    job = studio.ask(studio.project())
    studio.run("select get_next_job()")
    with connect(database_url) as worker, worker.transaction():
        worker.execute("select from job_queue for update")
        studio.run("set lock_timeout = '5s'")
        studio.run("delete from projects")
    assert studio.run("select status from job_queue") == ["processing"]
    assert studio.run(f"select mark_job_{verb}", job) == [True]
    assert studio.run("select count(*) from job_queue") == [0]


def test_nothing_is_made_for_a_project_that_is_deleted_while_its_photo_is_fetched(
    studio: Studio, database_url: str
) -> None:
    def delete() -> None:
        studio.run("delete from projects")

    server = PictureServer()
    url = server.put("/photo.png", picture("teal"), before=delete)
    studio.ask(studio.project(url))
    generator = PaintGenerator()
    studio.drain(database_url, generator)
    assert server.asked == {"/photo.png": 1}
    assert not generator.asked


def test_a_type_that_is_renamed_in_the_middle_fails_with_a_reason(studio: Studio, database_url: str) -> None:
    job = studio.ask(studio.project(), "scale")

    def rename(image_type: str) -> None:
        studio.run("update image_types set name = 'size' where name = 'scale'")

    studio.drain(database_url, PaintGenerator(rename))
    assert "the database refuses its row" in str(studio.job(job)[1])
    studio.make_due()
    studio.drain(database_url)
    assert studio.job(job) == ("failed", "scale: there is no such image type any more")


def test_a_worker_whose_lease_ran_out_writes_no_row(studio: Studio, database_url: str) -> None:
    project = studio.project()
    studio.ask(project, "scale")

    def lose_lease(image_type: str) -> None:
        studio.run("update job_queue set attempts = attempts + 1")

    assert studio.drain(database_url, PaintGenerator(lose_lease)).counts["lost"] == 1
    assert studio.pictures(project) == {}


def test_an_app_that_holds_its_project_is_not_in_the_way(studio: Studio, database_url: str) -> None:
    project = studio.project()
    studio.ask(project)
    with connect(database_url) as app, app.transaction():
        app.execute("update projects set source_image_url = source_image_url where id = %s", (project,))
        assert studio.drain(database_url).counts["deferred"] >= 1
        assert set(studio.pictures(project)) == set(TYPES)
        app.execute("select enqueue_image(%s, 'scale')", (project,))
    studio.make_due()
    generator = PaintGenerator()
    studio.drain(database_url, generator)
    assert not generator.asked
    assert studio.state(project) == "COMPLETED"


def test_a_picture_whose_project_the_app_holds_is_charged_to_nobody(studio: Studio, database_url: str) -> None:
    job = studio.ask(studio.project(), "scale")
    with connect(database_url) as app:

        def hold(image_type: str) -> None:
            app.execute("begin")
            app.execute("select from projects for update")

        assert studio.drain(database_url, PaintGenerator(hold)).counts["deferred"] == 1
    assert studio.job(job) == ("pending", "scale: its rows are locked")
    assert studio.run("select attempts - deferrals from job_queue") == [0]


def test_a_picture_whose_row_the_app_holds_as_its_photo_moves_is_charged_to_nobody(
    studio: Studio, database_url: str
) -> None:
    project = studio.project()
    studio.ask(project, "scale")
    studio.drain(database_url)
    studio.run("update projects set source_image_url = %s", studio.photo(name="moved.png"))
    job = studio.ask(project, "scale")
    with connect(database_url) as app, app.transaction():
        app.execute("set local idle_in_transaction_session_timeout = '30s'")
        app.execute("select from generated_images for update")
        assert studio.drain(database_url).counts["deferred"] == 1
    assert studio.job(job) == ("pending", "photo: its rows are locked")
    studio.make_due()
    generator = PaintGenerator()
    studio.drain(database_url, generator)
    assert not generator.asked
    assert studio.job(job) == ("completed", None)


def grow_old(studio: Studio) -> None:
    """As if all files had been written two days ago."""
    for path in studio.made.rglob("*"):
        os.utime(path, (time.time() - 2 * 86400,) * 2)


def test_cleanup_leaves_pictures_with_a_row_and_files_of_others(studio: Studio, database_url: str) -> None:
    project = studio.project()
    studio.ask(project)
    studio.drain(database_url)
    (studio.made / "notes.txt").write_text("mine")
    studio.ask(project, "scale", force=True)
    studio.drain(database_url)
    grow_old(studio)
    assert forget_orphan_pictures(studio.connection, PictureStore(studio.made.as_uri())) == 1
    assert studio.files() == {*studio.pictures(project).values(), (studio.made / "notes.txt").as_uri()}


def test_cleanup_leaves_pictures_whose_place_is_reached_by_another_url_now(studio: Studio, database_url: str) -> None:
    project = studio.project()
    studio.ask(project, "scale")
    studio.drain(database_url)
    moved = studio.folder / "moved"
    moved.symlink_to(studio.made)
    grow_old(studio)
    assert forget_orphan_pictures(studio.connection, PictureStore(moved.as_uri())) == 0
    assert studio.files() == set(studio.pictures(project).values())


KILLED = """
import os, signal, sys
from pathlib import Path
from matching_pipeline.db.connections import connect
from matching_pipeline.stages import generation
from matching_pipeline_tests.fixtures.pictures import PictureServer, picture
from matching_pipeline_tests.fixtures.studio import PaintGenerator, Studio

database_url, folder = sys.argv[1:]
save = generation.save_picture

def save_some(*arguments, **named):
    if len(list(Path(folder, "made").rglob("*.png"))) >= 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return save(*arguments, **named)

generation.save_picture = save_some
with connect(database_url) as connection:
    Studio(connection, Path(folder)).drain(database_url, PaintGenerator(concurrency=1))
"""


def test_a_worker_killed_between_file_and_row_leaves_neither_a_row_nor_a_lost_file(
    studio: Studio, database_url: str
) -> None:
    project = studio.project()
    job = studio.ask(project)
    killed = subprocess.run([sys.executable, "-c", KILLED, database_url, studio.folder], timeout=120)
    assert killed.returncode == -signal.SIGKILL
    kept, files = studio.pictures(project), studio.files()
    assert set(kept.values()) < files
    assert studio.state(project) == "PROCESSING"
    assert studio.drain(database_url).completed == 0  # its lease still stands
    studio.run("update job_queue set run_at = now()")
    generator = PaintGenerator()
    assert studio.drain(database_url, generator).completed == 1
    assert len(generator.asked) == len(TYPES) - len(kept)
    assert studio.job(job) == ("completed", None)
    assert studio.state(project) == "COMPLETED"
    grow_old(studio)
    assert forget_orphan_pictures(studio.connection, PictureStore(studio.made.as_uri())) == len(files) - len(kept)
    assert set(studio.pictures(project).values()) == studio.files()


def test_a_told_stop_does_not_wait_for_a_whole_queue(studio: Studio, database_url: str) -> None:
    for _ in range(3):
        studio.ask(studio.project(), "scale")
    begun = threading.Event()

    def stop(image_type: str) -> None:
        if not begun.is_set():
            begun.set()
            studio.run("select pg_notify('job_queue', 'stop')")

    summary = studio.drain(database_url, PaintGenerator(stop, concurrency=1))
    assert summary.stopped_because == "it was told to stop"
    assert summary.completed == 1
