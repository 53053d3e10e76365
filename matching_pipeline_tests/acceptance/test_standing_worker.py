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

SHORTER = {
    "queues/supervision.py": ("SETTLING_SECONDS = 60.0", "SETTLING_SECONDS = 5.0"),
    "components/sensors.py": ("TICK_SECONDS = 5\n", "TICK_SECONDS = 2\n"),
}
"""Times that the test would otherwise wait for, in the copy of the code."""


class Machine:
    """`dev` on an embedded database, with a copy of the code."""

    def __init__(self, folder: Path) -> None:
        self.code = folder / "code"
        for name in ("matching_pipeline", "sql"):
            shutil.copytree(ROOT / name, self.code / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("dagster.yaml", "workspace.yaml"):
            shutil.copy(ROOT / name, self.code / name)
        for name, (long, short) in SHORTER.items():
            module = self.code / "matching_pipeline" / name
            assert long in module.read_text()
            module.write_text(module.read_text().replace(long, short, 1))
        self.folder = folder / "dev"
        self.folder.mkdir()
        self.said = self.folder / "said"
        self.server = start_embedded(self.folder / ".data" / "postgres")
        self.connection = psycopg.connect(self.server.get_uri(), autocommit=True)
        self.start()
        await_schema(self.connection, self.process)

    def start(self) -> None:
        environment = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
        environment["PYTHONPATH"] = str(self.code)
        with self.said.open("w") as said:
            self.process = subprocess.Popen(COMMAND, cwd=self.folder, env=environment, stderr=said)

    def all(self, statement: str) -> list[tuple[Any, ...]]:
        return self.connection.execute(statement.encode()).fetchall()

    def worker(self, *, after: int = 0) -> tuple[int, str]:
        """Id and run of the newest worker that entered after the one named."""
        entered = f"select id, run_id from matching_pipeline.workers where entered_at is not null and id > {after}"
        return self.until(f"{entered} order by id")[-1]

    def status(self, run_id: str) -> str:
        ((status,),) = self.all(f"select status from dagster.runs where run_id = '{run_id}'")
        return str(status)

    def until(self, statement: str, seconds: float = 180) -> list[tuple[Any, ...]]:
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

    def await_sensor(self) -> None:
        """Until `worker_sensor` has looked once more from beginning to end."""
        ((last,),) = self.all("select coalesce(max(id), 0) from dagster.job_ticks")
        ended = "tick_body like '%\"worker_sensor\"%' and status in ('SKIPPED', 'SUCCESS')"
        self.until(f"select from dagster.job_ticks where id > {last} and {ended}")

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
def machine(tmp_path: Path) -> Iterator[Machine]:
    machine = Machine(tmp_path)
    try:
        yield machine
    finally:
        machine.end()


def test_rows_are_processed_again_whatever_is_killed_and_nothing_stays_behind(machine: Machine) -> None:
    """One machine for all of it, as to start Dagster takes longer than each part."""
    the_next_worker_does_the_rows_of_a_killed_one(machine)
    the_same_run_goes_on_where_the_server_was_away(machine)
    a_reload_relieves_the_worker_only_where_the_code_has_changed(machine)
    dev_ends_where_its_daemon_is_killed(machine)
    machine.all("insert into jobs (title) values ('Baker') returning id")
    machine.start()
    machine.until("select 1 where (select count(*) from jobs) = (select count(*) from job_embeddings)")
    a_killed_dev_leaves_no_worker(machine)
    machine.start()
    a_stop_while_the_run_is_just_starting_leaves_nothing(machine)
    assert machine.all("select count(*) from job_queue where status = 'failed'") == [(0,)]


def the_next_worker_does_the_rows_of_a_killed_one(machine: Machine) -> None:
    worker, run = machine.worker()
    machine.seconds_to_embed()
    # SIGTERM is what Terminate in the UI sends
    for kill in (psutil.Process.kill, psutil.Process.terminate):
        kill(machine.run_process(run))
        machine.seconds_to_embed()
        killed = run
        worker, run = machine.worker(after=worker)
        assert (machine.status(killed), machine.status(run)) == ("FAILURE", "STARTED")


def the_same_run_goes_on_where_the_server_was_away(machine: Machine) -> None:
    before = machine.worker()
    machine.server.stop()
    time.sleep(3)
    machine.server.ensure_postgres_running()
    machine.connection = psycopg.connect(machine.server.get_uri(), autocommit=True)
    machine.seconds_to_embed()
    assert machine.worker() == before
    # Dagster starts the code server again
    for process in machine.processes("dagster api grpc"):
        process.kill()
    machine.seconds_to_embed()
    assert machine.worker() == before


def a_reload_relieves_the_worker_only_where_the_code_has_changed(machine: Machine) -> None:
    first, _ = machine.worker()
    machine.reload_code()
    machine.seconds_to_embed()
    machine.await_sensor()
    assert machine.worker()[0] == first

    with (machine.code / "matching_pipeline" / "errors.py").open("a") as code:
        code.write("# another version\n")
    machine.reload_code()
    second, _ = machine.worker(after=first)
    machine.until(f"select 1 where not exists (select from matching_pipeline.workers where id = {first})")
    machine.seconds_to_embed()
    assert machine.worker()[0] == second
    machine.until("select from dagster.runs where pipeline_name = 'worker' and status = 'SUCCESS'")


def dev_ends_where_its_daemon_is_killed(machine: Machine) -> None:
    for daemon in machine.processes("dagster._daemon"):
        daemon.kill()
    assert machine.process.wait(90) == 1
    assert "Dagster ended by itself" in machine.said.read_text()


def a_killed_dev_leaves_no_worker(machine: Machine) -> None:
    _, run = machine.worker()
    worker = machine.run_process(run)
    machine.process.kill()
    machine.process.wait()
    with suppress(psutil.NoSuchProcess):
        worker.wait(60)


def a_stop_while_the_run_is_just_starting_leaves_nothing(machine: Machine) -> None:
    machine.until("select from matching_pipeline.workers where started_at is null")
    machine.process.send_signal(signal.SIGINT)
    # 1 where `dev` was still waiting for the UI
    assert machine.process.wait(90) in (0, 1)
    assert not machine.processes("dagster")
    assert machine.all("select from matching_pipeline.workers") == []
