"""The processes of the image, as it runs them: the wheel, another user, and an environment with nothing else."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from sysconfig import get_path
from typing import Any

import httpx
import pytest

from matching_pipeline.cli.dev import free_port
from matching_pipeline_tests.fixtures.wheel import ROOT

USER = 10001
DAGSTER = ("dagster", "api")


class Image:
    """What the container has: a folder that the user may read, and one that the user may write."""

    def __init__(self, folder: Path, wheel: Path) -> None:
        self.folder = folder
        zipfile.ZipFile(wheel).extractall(folder / "wheel")
        shutil.copytree(
            ROOT / "matching_pipeline" / "examples", folder / "defs", ignore=shutil.ignore_patterns("*.py")
        )
        self.home = folder / "home"
        self.home.mkdir()
        for place in folder.rglob("*"):
            place.chmod(0o755 if place.is_dir() else 0o644)
        folder.chmod(0o755)
        self.user: dict[str, Any] = {}
        if os.getuid() == 0:
            shutil.chown(self.home, USER)
            self.user = {"user": USER, "group": USER, "extra_groups": []}
        self.python = self._python()
        self.environment = {
            "PATH": os.defpath,
            "PYTHONPATH": f"{folder / 'wheel'}:{get_path('purelib')}",
            "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nothing",
            "DAGSTER_HOME": str(self.home),
            "DATA_DIR": str(self.home / "data"),
            "DEFINITIONS_DIR": str(folder / "defs"),
        }

    def _python(self) -> str:
        """One that the user may execute: ours may be in a home folder."""
        for python in (sys.executable, f"/usr/bin/python3.{sys.version_info.minor}"):
            with suppress(OSError):
                if subprocess.run([python, "-c", "import ssl"], cwd="/", env={}, **self.user).returncode == 0:
                    return python
        pytest.skip("the other user may execute no Python of this version")

    def start(self, *command: str) -> "subprocess.Popen[bytes]":
        with (self.home / "log").open("ab") as log:
            return subprocess.Popen(
                [self.python, *command],
                cwd=self.home,
                env=self.environment,
                stdout=log,
                stderr=log,
                **self.user,
            )


@pytest.fixture
def image(installed_python: Path) -> Iterator[Image]:
    (wheel,) = installed_python.parents[2].glob("*.whl")
    # pytest's own folders are closed to other users
    with tempfile.TemporaryDirectory(prefix="mp-image-") as folder:
        yield Image(Path(folder), wheel)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_code_location_and_gallery_serve_another_user(image: Image) -> None:
    """Without a database, and with Dagster's tables in a file of its own folder."""
    grpc, http = str(free_port(4000)), str(free_port(3001))
    with ExitStack() as stack:
        for command in (
            ("-m", *DAGSTER, "grpc", "-h", "127.0.0.1", "-p", grpc, "-m", "matching_pipeline.definitions"),
            ("-c", "from matching_pipeline.cli.main import main; main()", "gallery", "--port", http),
        ):
            process = image.start(*command)
            stack.callback(process.wait)
            stack.callback(process.kill)
        deadline = time.monotonic() + 120
        while not listens(int(grpc)):
            assert time.monotonic() < deadline, (image.home / "log").read_text()
            time.sleep(0.1)
        assert image.start("-m", *DAGSTER, "grpc-health-check", "-p", grpc).wait() == 0
        reply = httpx.get(f"http://127.0.0.1:{http}/metrics", timeout=30)
    assert "matching_pipeline_database_up 0.0" in reply.text, (image.home / "log").read_text()
    assert {path.name for path in image.folder.iterdir()} == {"wheel", "defs", "home"}
