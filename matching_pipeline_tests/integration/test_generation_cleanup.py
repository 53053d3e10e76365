"""Files of product pictures without a row: how they come about, and how they are deleted."""

import signal
import subprocess
import sys

from matching_pipeline.pictures.store import PictureStore
from matching_pipeline.sources.orphans import delete_orphan_files, delete_orphan_rows
from matching_pipeline_tests.fixtures.studio import TYPES, PaintGenerator, Studio


def test_cleanup_leaves_pictures_with_a_row_and_files_of_others(studio: Studio, database_url: str) -> None:
    project = studio.project()
    studio.ask(project)
    studio.work(database_url)
    (studio.made / "notes.txt").write_text("mine")
    studio.ask(project, "scale", force=True)
    studio.work(database_url)
    studio.grow_old()
    assert delete_orphan_files(studio.connection, PictureStore(studio.made.as_uri())) == 1
    assert studio.files() == {*studio.pictures(project).values(), (studio.made / "notes.txt").as_uri()}


def test_cleanup_leaves_pictures_whose_place_is_reached_by_another_url_now(studio: Studio, database_url: str) -> None:
    project = studio.project()
    studio.ask(project, "scale")
    studio.work(database_url)
    moved = studio.folder / "moved"
    moved.symlink_to(studio.made)
    studio.grow_old()
    assert delete_orphan_files(studio.connection, PictureStore(moved.as_uri())) == 0
    assert studio.files() == set(studio.pictures(project).values())


def test_what_was_made_for_a_project_that_went_unnoticed_is_deleted(studio: Studio, database_url: str) -> None:
    """As in a session that loads or replicates rows with triggers disabled."""
    gone, there = studio.project(), studio.project()
    for project in (gone, there):
        studio.ask(project, "scale")
    studio.work(database_url)
    studio.run("set session_replication_role = replica")
    studio.run("delete from projects where id = %s", gone)
    studio.run("set session_replication_role = origin")
    assert delete_orphan_rows(studio.connection) == 1
    assert studio.run("select project_id from generated_images") == [there]
    assert studio.run("select entity_id from job_queue") == [there]
    studio.run("alter table projects rename to former")
    assert delete_orphan_rows(studio.connection) == 0
    assert studio.run("select project_id from generated_images") == [there]


KILLED = """
import os, signal, sys
from pathlib import Path
from matching_pipeline.db.connections import connect
from matching_pipeline.handlers import generation
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
    Studio(connection, Path(folder)).work(database_url, PaintGenerator(concurrency=1))
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
    assert studio.work(database_url).completed == 0  # its lease has not run out
    studio.run("update matching_pipeline.jobs set run_at = now()")
    generator = PaintGenerator()
    assert studio.work(database_url, generator).completed == 1
    assert len(generator.asked) == len(TYPES) - len(kept)
    assert studio.job(job) == ("completed", None)
    assert studio.state(project) == "COMPLETED"
    studio.grow_old()
    assert delete_orphan_files(studio.connection, PictureStore(studio.made.as_uri())) == len(files) - len(kept)
    assert set(studio.pictures(project).values()) == studio.files()
