"""`dev` with Dagster's own processes: whatever is killed, rows are processed again within seconds, and once."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg
import pytest

from matching_pipeline.db.embedded import start_embedded
from matching_pipeline.db.files import ROOT
from matching_pipeline_tests.acceptance.test_dev import COMMAND, await_schema, ui_address


class Machine:
    """`dev` on an embedded database of its own."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self.server = start_embedded(folder / ".data" / "postgres")
        self.said = folder / "said"
        self.process = self.start(environment)
        self.connection = psycopg.connect(self.server.get_uri(), autocommit=True)
        await_schema(self.connection, self.process)

    def start(self, environment: dict[str, str]) -> "subprocess.Popen[bytes]":
        with self.said.open("w") as said:
            return subprocess.Popen(COMMAND, cwd=self.folder, env=environment, stderr=said)

    def all(self, statement: str) -> list[tuple[Any, ...]]:
        return self.connection.execute(statement.encode()).fetchall()

    def worker(self, *, after: int = 0) -> tuple[int, str]:
        """Id and run of the worker that entered after the one named."""
        return self.until(
            f"select id, run_id from matching_pipeline.workers where entered_at is not null and id > {after}"
        )[-1]

    def until(self, statement: str, seconds: float = 90) -> list[tuple[Any, ...]]:
        """The statement's rows, once there are any."""
        deadline = time.monotonic() + seconds
        while not (found := self.all(statement)):
            assert self.process.poll() is None
            assert time.monotonic() < deadline, statement
            time.sleep(0.1)
        return found

    def seconds_to_embed(self) -> float:
        """From the insert of a posting to its embedding."""
        ((job,),) = self.all("insert into jobs (title) values ('Baker') returning id")
        inserted = time.monotonic()
        self.until(f"select from job_embeddings where job_id = '{job}'")
        return time.monotonic() - inserted

    def processes(self, *words: str) -> list[psutil.Process]:
        """Those of this machine whose command line has all the words."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                command = " ".join(process.cmdline())
                if Path(process.cwd()) == self.folder and all(word in command for word in words):
                    found.append(process)
        return found

    def reload_code(self) -> None:
        """As the button *Reload* of the UI does."""
        mutation = 'mutation { reloadRepositoryLocation(repositoryLocationName: "matching_pipeline") { __typename } }'
        reply = httpx.post(f"{self.address}/graphql", json={"query": mutation}, timeout=60)
        assert "WorkspaceLocationEntry" in reply.text, reply.text

    @property
    def address(self) -> str:
        return ui_address(self.said)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        for process in self.processes():
            with suppress(psutil.Error):
                process.kill()
        self.server.cleanup()

    def run_process(self, run_id: str) -> psutil.Process:
        """The process of a run: the one that Dagster recorded as its worker's."""
        ((pid,),) = self.all(
            "select substring(event from 'Started process for run .pid: ([0-9]+)')::int from dagster.event_logs "
            f"where run_id = '{run_id}' and event like '%Started process for run%' limit 1"
        )
        return psutil.Process(pid)


@pytest.fixture
def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}


@pytest.fixture
def machine(tmp_path: Path, environment: dict[str, str]) -> Iterator[Machine]:
    machine = Machine(tmp_path, environment)
    try:
        yield machine
    finally:
        machine.end()


def test_rows_are_processed_again_whatever_is_killed(machine: Machine) -> None:
    first, run = machine.worker()
    machine.seconds_to_embed()

    # SIGKILL of the run
    machine.run_process(run).kill()
    machine.seconds_to_embed()
    second, run = machine.worker(after=first)

    # SIGTERM of the run, which is what Terminate in the UI sends
    machine.run_process(run).terminate()
    machine.seconds_to_embed()
    third, run = machine.worker(after=second)
    runs = "select status, count(*)::int from dagster.runs where pipeline_name = 'worker' group by status"
    statuses = dict(machine.all(runs))
    assert statuses == {"FAILURE": 2, "STARTED": 1}

    # the database is away for some seconds: the same run goes on
    machine.server.stop()
    time.sleep(3)
    machine.server.ensure_postgres_running()
    machine.connection = psycopg.connect(machine.server.get_uri(), autocommit=True)
    machine.seconds_to_embed()
    assert machine.worker() == (third, run)

    # the code server is killed, and started again by Dagster: the same run goes on
    for process in machine.processes("dagster api grpc"):
        process.kill()
    machine.seconds_to_embed()
    assert machine.worker() == (third, run)
    ((jobs, embedded),) = machine.all("select (select count(*) from jobs), (select count(*) from job_embeddings)")
    assert jobs == embedded
    assert machine.all("select count(*) from job_queue where status = 'failed'") == [(0,)]


def test_dev_ends_where_its_daemon_is_killed_and_goes_on_where_it_is_started_again(
    machine: Machine, environment: dict[str, str]
) -> None:
    machine.worker()
    for daemon in machine.processes("dagster._daemon"):
        daemon.kill()
    assert machine.process.wait(90) == 1
    assert "Dagster ended by itself" in machine.said.read_text()
    ((job,),) = machine.all("insert into jobs (title) values ('Baker') returning id")
    machine.process = machine.start(environment)
    machine.until(f"select from job_embeddings where job_id = '{job}'")


def test_a_killed_dev_leaves_no_worker(machine: Machine) -> None:
    _, run = machine.worker()
    worker = machine.run_process(run)
    machine.process.kill()
    machine.process.wait()
    with suppress(psutil.NoSuchProcess):
        worker.wait(60)


def test_a_stop_while_the_run_is_just_starting_leaves_nothing(machine: Machine) -> None:
    machine.until("select from matching_pipeline.workers where started_at is null", seconds=120)
    machine.process.send_signal(signal.SIGINT)
    # 1 where `dev` was still waiting for the UI
    assert machine.process.wait(90) in (0, 1)
    assert not machine.processes("dagster")
    assert machine.all("select from matching_pipeline.workers") == []


def test_a_reloaded_code_location_relieves_the_worker_only_where_the_code_has_changed(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    checkout = tmp_path / "checkout"
    for name in ("matching_pipeline", "sql"):
        shutil.copytree(ROOT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("dagster.yaml", "workspace.yaml"):
        shutil.copy(ROOT / name, checkout / name)
    folder = tmp_path / "dev"
    folder.mkdir()
    machine = Machine(folder, {**environment, "PYTHONPATH": str(checkout)})
    try:
        first, _ = machine.worker()
        machine.reload_code()
        machine.seconds_to_embed()
        time.sleep(12)  # two ticks of the sensor
        assert machine.worker()[0] == first

        with (checkout / "matching_pipeline" / "errors.py").open("a") as code:
            code.write("# another version\n")
        machine.reload_code()
        second, _ = machine.worker(after=first)
        machine.until(f"select 1 where not exists (select from matching_pipeline.workers where id = {first})")
        machine.seconds_to_embed()
        assert machine.worker()[0] == second
        machine.until("select from dagster.runs where pipeline_name = 'worker' and status = 'SUCCESS'")
    finally:
        machine.end()
