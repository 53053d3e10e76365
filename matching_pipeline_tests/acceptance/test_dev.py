"""The whole house, as a new user starts it: the installed wheel, embedded Postgres, Dagster, sensors, runs."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg
import pytest

from matching_pipeline.db.embedded import start_embedded
from matching_pipeline.sample_data.listings import Marketplace, sample_marketplace
from matching_pipeline.sample_data.people import sample_users

DEV = ("dev", "--port", "0")
COMMAND = [str(Path(sys.executable).with_name("matching-pipeline")), *DEV]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nothing that was started in it may outlive a test."""
    return tmp_path_factory.mktemp("dev")


@pytest.fixture
def environment(folder: Path) -> dict[str, str]:
    """Nothing of the user who runs the tests."""
    return {"PATH": os.defpath, "HOME": str(folder)}


@pytest.fixture
def installed(installed_python: Path) -> str:
    """The command of the wheel."""
    return str(installed_python.with_name("matching-pipeline"))


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
    folder: Path, environment: dict[str, str], installed: str, sample: Marketplace
) -> None:
    def run(*arguments: str) -> str:
        done = subprocess.run(
            [installed, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("init", "--app", "marketplace", "--app", "face_match")
    run("migrate")
    printed = run(*DEV, "--sample-data", "--until-idle")
    for project, product in sample.expected.items():
        assert any(str(project) in line and str(product) in line for line in printed.splitlines())
    assert not living_processes(folder)


def test_a_second_goes_on_from_there_matches_rows_as_they_come_and_ctrl_c_ends_everything(
    folder: Path, environment: dict[str, str], installed: str, sample: Marketplace
) -> None:
    said = folder / "said"
    with said.open("w") as output:
        running = subprocess.Popen([installed, *DEV, "--sample-data"], cwd=folder, env=environment, stderr=output)
    try:
        server = start_embedded(folder / ".data" / "postgres")
        project = sample.projects[0].id
        with psycopg.connect(server.get_uri(), autocommit=True) as connection:
            await_schema(connection, running)
            (product,) = connection.execute("insert into products default values returning id").fetchall()[0]
            connection.execute(
                "insert into product_images (product_id, src) "
                "select %s, image_url from listing_images where listing_id = %s limit 1",
                (product, project),
            )
            user = sample_users()[0]
            (face,) = connection.execute(
                "insert into faces (user_id, embedding) select user_id, embedding from faces where id = %s "
                "returning id",
                (user.faces[0][0],),
            ).fetchall()[0]
            pairs = "select from matching_pipeline.matches where matcher ="
            best = f"{pairs} 'project' and right_key = %s and left_key = %s and left_rank = 1 and similarity = 1.0"
            assert awaited(connection, best, str(product), str(project))
            assert awaited(connection, f"{pairs} 'face' and %s in (left_key, right_key)", str(face))
        shown = shown_assets(ui_address(said))
        assert {"image_ai", "matches", "face_matches"} <= shown
        running.send_signal(signal.SIGINT)
        assert running.wait(60) == 0
    finally:
        running.kill()
        server.cleanup()
    assert not living_processes(folder)


def ui_address(said: Path) -> str:
    """`dev` prints it once the UI answers."""
    deadline = time.monotonic() + 120
    while not (found := re.search(r"http://127\.0\.0\.1:\d+", said.read_text())):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    return found[0]


def shown_assets(address: str) -> set[str]:
    """The names of the assets on the page *Catalog* of the UI."""
    assert "<html" in httpx.get(f"{address}/assets").text
    reply = httpx.post(f"{address}/graphql", json={"query": "{ assetNodes { assetKey { path } } }"}, timeout=60)
    return {node["assetKey"]["path"][-1] for node in reply.json()["data"]["assetNodes"]}


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
