"""Apps, workers and a worker that dies use the same projects. In the end every picture asked for is there."""

import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import UUID

import psycopg

from matching_pipeline.db.connections import connect
from matching_pipeline_tests.fixtures.studio import TYPES, PaintGenerator, Studio

SECONDS = 5.0


def app(database_url: str, folder: Path, projects: list[UUID], seed: int) -> None:
    """None of its statements may fail or wait. It never deletes the first project."""
    chance = random.Random(seed)
    with connect(database_url) as connection:
        studio = Studio(connection, folder)
        studio.run("set lock_timeout = '5s'")
        photos = [studio.photo(color, f"{color}.png") for color in ("teal", "red", "blue")]
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            try:
                with connection.transaction():
                    chance.choices(list(ACTS), weights=list(ACTS.values()))[0](studio, chance, projects, photos)
            except psycopg.errors.ForeignKeyViolation:  # there is no such project now
                pass
            time.sleep(chance.random() / 20)


def replace_project(studio: Studio, chance: random.Random, projects: list[UUID], photos: list[str]) -> None:
    number = chance.randrange(1, len(projects))
    studio.run("delete from projects where id = %s", projects[number])
    projects[number] = studio.project(photos[0])


def change_photo(studio: Studio, chance: random.Random, projects: list[UUID], photos: list[str]) -> None:
    studio.run(
        "update projects set source_image_url = %s where id = %s", chance.choice(photos), chance.choice(projects)
    )


def ask(studio: Studio, chance: random.Random, projects: list[UUID], photos: list[str]) -> None:
    studio.ask(chance.choice(projects), chance.choice([None, *TYPES]), force=chance.random() < 0.2)


def write_and_ask_slowly(studio: Studio, chance: random.Random, projects: list[UUID], photos: list[str]) -> None:
    studio.run("update projects set status = status where id = %s", chance.choice(projects))
    studio.ask(chance.choice(projects))
    time.sleep(chance.random() / 20)


ACTS: dict[Callable[[Studio, random.Random, list[UUID], list[str]], None], int] = {
    replace_project: 1,
    change_photo: 2,
    ask: 10,
    write_and_ask_slowly: 2,
}


def work(database_url: str, folder: Path, seed: int) -> None:
    chance = random.Random(seed)
    with connect(database_url) as connection:
        studio = Studio(connection, folder)
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            studio.work(database_url, PaintGenerator(lambda _: time.sleep(chance.random() / 50), concurrency=3))
            time.sleep(0.05)


def die(database_url: str) -> None:
    """Claims a job and dies, again and again."""
    with connect(database_url) as connection:
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            connection.execute("select get_next_job(lease => '0.2 seconds')")
            time.sleep(0.5)


def test_in_the_end_everything_that_was_asked_for_is_there(studio: Studio, database_url: str) -> None:
    projects = [studio.project() for _ in range(4)]
    with ThreadPoolExecutor(6) as threads:
        apps = [threads.submit(app, database_url, studio.folder, projects, seed) for seed in range(3)]
        workers = [threads.submit(work, database_url, studio.folder, seed) for seed in range(2)]
        for running in [*apps, *workers, threads.submit(die, database_url)]:
            running.result(SECONDS + 60)
    studio.ask(projects[0])
    for _ in range(10):
        studio.run("update matching_pipeline.jobs set run_at = now() where status in ('pending', 'processing')")
        studio.work(database_url)
        studio.publish(database_url)
    assert studio.run("select count(*) from job_queue where status in ('pending', 'processing')") == [0]
    failed = set(studio.run("select entity_id from job_queue where status = 'failed'"))
    lost = studio.run(
        "select count(*) from asked_images where job_status = 'completed' and not made and source_hash is null"
    )
    assert lost == [0]
    assert set(studio.run("select image_type from asked_images where project_id = %s", projects[0])) == set(TYPES)
    assert set(studio.pictures(projects[0])) == set(TYPES)
    for project, status in studio.connection.execute("select id, status from projects").fetchall():
        asked = studio.run("select 1 from job_queue where entity_id = %s", project)
        assert status == ("FAILED" if project in failed else "COMPLETED") or not asked
    assert set(studio.run("select url from generated_images")) <= studio.files()
    orphans = studio.run(
        "select count(*) from job_queue where status <> 'completed' "
        "and not exists (select from projects where id = entity_id)"
    )
    assert orphans == [0]
