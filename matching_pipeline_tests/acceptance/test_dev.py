"""The whole house, as a new user starts it: embedded Postgres, Dagster, sensors, runs."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from matching_pipeline.db.embedded import start_embedded
from matching_pipeline.sample_data.listings import Marketplace, sample_marketplace
from matching_pipeline.sample_data.people import sample_users

COMMAND = [str(Path(sys.executable).with_name("matching-pipeline")), "dev", "--port", "0"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nothing that was started in it may outlive a test."""
    return tmp_path_factory.mktemp("dev")


@pytest.fixture
def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("DATABASE_", "DAGSTER_"))}


@pytest.fixture
def sample() -> Marketplace:
    return sample_marketplace()


def living_processes(folder: Path) -> list[str]:
    """Command lines of what works in the folder or on its data."""
    found = []
    for process in psutil.process_iter():
        try:
            command = " ".join(process.cmdline())
            if process.status() != psutil.STATUS_ZOMBIE and (str(folder) in command or process.cwd() == str(folder)):
                found.append(command)
        except psutil.Error:
            continue
    return found


def test_sample_rows_are_matched_and_everything_ends(
    folder: Path, environment: dict[str, str], sample: Marketplace
) -> None:
    done = subprocess.run(
        [*COMMAND, "--sample-data", "--until-idle"],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=180,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for project, product in sample.expected.items():
        assert any(str(project) in line and str(product) in line for line in done.stdout.splitlines())
    assert not living_processes(folder)


def test_a_second_goes_on_from_there_matches_rows_as_they_come_and_ctrl_c_ends_everything(
    folder: Path, environment: dict[str, str], sample: Marketplace
) -> None:
    running = subprocess.Popen([*COMMAND, "--sample-data"], cwd=folder, env=environment)
    try:
        server = start_embedded(folder / ".data" / "postgres")
        picture = sample.projects[0].pictures[0]
        with psycopg.connect(server.get_uri(), autocommit=True) as connection:
            await_schema(connection, running)
            (product,) = connection.execute("insert into products default values returning id").fetchall()[0]
            connection.execute("insert into product_images (product_id, src) values (%s, %s)", (product, picture.url))
            user = sample_users()[0]
            (face,) = connection.execute(
                "insert into faces (user_id, embedding) select user_id, embedding from faces where id = %s "
                "returning id",
                (user.faces[0][0],),
            ).fetchall()[0]
            best = "select similarity from matches where product_id = %s and project_id = %s and rank = 1"
            assert awaited(connection, best, product, sample.projects[0].id) == [(1.0,)]
            assert awaited(connection, "select id from matches where %s in (face_a_id, face_b_id)", face)
        running.send_signal(signal.SIGINT)
        assert running.wait(60) == 0
    finally:
        running.kill()
        server.cleanup()
    assert not living_processes(folder)


def awaited(connection: psycopg.Connection, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
    """The statement's rows, as soon as there are any."""
    deadline = time.monotonic() + 120
    while not (found := connection.execute(statement.encode(), parameters).fetchall()):
        assert time.monotonic() < deadline
        time.sleep(0.5)
    return found


def await_schema(connection: psycopg.Connection, running: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 180
    while connection.execute("select to_regclass('product_images')").fetchall() == [(None,)]:
        assert running.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.2)
