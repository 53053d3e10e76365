"""Celery places the shards of a rebuild, and a standing worker, on machines that share nothing but Postgres."""

import os
import shutil
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.reconstruct import ReconstructableRepository
from dagster._core.launcher import LaunchRunContext
from dagster_celery.launcher import CeleryRunLauncher

from matching_pipeline.components.placement import celery_config, step_executor
from matching_pipeline.db.connections import Connection, connect
from matching_pipeline.db.files import ROOT
from matching_pipeline.matches.locks import ListsLock
from matching_pipeline.settings import Settings
from matching_pipeline_tests.integration.components.test_rebuild_steps import execute, rebuild_job
from matching_pipeline_tests.integration.conftest import until


def celery() -> dg.JobDefinition:
    return rebuild_job(step_executor(Settings()))


@pytest.fixture
def instance(monkeypatch: pytest.MonkeyPatch, postgres_instance: dg.DagsterInstance) -> dg.DagsterInstance:
    monkeypatch.setenv("STEP_EXECUTOR", "celery")
    return postgres_instance


@pytest.fixture
def workers(instance: dg.DagsterInstance, forkserver: None, tmp_path: Path) -> Iterator[list[BaseProcess]]:
    """Each has a folder of its own, and does one task at a time. They are forked from a process with Dagster."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["matching_pipeline.definitions", "dagster_celery.tasks"])
    started: list[BaseProcess] = []
    try:
        for name in ("first", "second"):
            (tmp_path / name).mkdir()
            shutil.copy(ROOT / "dagster.yaml", tmp_path / name)
            process: BaseProcess = context.Process(target=work, args=(name, tmp_path / name, dict(os.environ)))
            process.start()
            started.append(process)
        yield started
    finally:
        for process in started:
            process.kill()
            process.join()


def work(name: str, folder: Path, environment: dict[str, str]) -> None:
    os.environ.update(environment, DAGSTER_HOME=str(folder))
    os.chdir(folder)
    from matching_pipeline.components.celery_app import app

    arguments = ("--pool", "solo", "--hostname", name, "--without-gossip", "--without-mingle")
    app.worker_main(["worker", *arguments, "--logfile", str(folder / "log")])


@pytest.mark.usefixtures("matched")
def test_a_machine_does_the_shard_of_one_that_vanishes_and_serves_the_queues(
    instance: dg.DagsterInstance,
    connection: Connection,
    database_url: str,
    workers: list[BaseProcess],
) -> None:
    with ThreadPoolExecutor() as pool:
        watching = pool.submit(kill_when_both_wait, database_url, workers[1])
        result = execute(instance, celery)
        watching.result(0)
    assert result.success
    events = [record.event_log_entry.dagster_event for record in instance.get_records_for_run(result.run_id).records]
    began = Counter(
        (str(event.step_key).split("[")[1][:4], str(event.engine_event_data.metadata["Celery worker"].value))
        for event in events
        if event and event.is_engine_event and "Celery worker" in event.engine_event_data.metadata
        if "rebuild_shard" in str(event.step_key)
    )
    (lost,) = (shard for shard, worker in began if worker == "celery@second")
    assert began == {("proj", "celery@first"): 1, ("face", "celery@first"): 1, (lost, "celery@second"): 1}
    rows = connection.execute("select matcher from matching_pipeline.matches order by matcher").fetchall()
    assert rows == [("face",), ("project",)]
    assert connection.execute("select count(*) from dagster.kombu_message").fetchone() == (0,)

    launch(instance, "worker")
    until(connection, "(select count(*) from matching_pipeline.workers where entered_at is not null) = 1")


def launch(instance: dg.DagsterInstance, job: str) -> None:
    """As the daemon does where `dagster.yaml` has this launcher."""
    code = ReconstructableRepository.for_module("matching_pipeline.definitions", "defs").get_reconstructable_job(job)
    origin = code.get_python_origin()
    run = instance.create_run_for_job(code.get_definition(), job_code_origin=origin)
    launcher = CeleryRunLauncher("dagster", **celery_config(Settings()))
    launcher.register_instance(instance)
    launcher.launch_run(LaunchRunContext(run, workspace=None))


def kill_when_both_wait(database_url: str, worker: BaseProcess) -> None:
    """Holds the lists of both matchers once they are planned, until two shards wait for them, each in a worker."""
    planned = "(select count(distinct matcher) from matching_pipeline.rebuilds) = 2"
    waiting = (
        "(select count(*) from pg_locks where locktype = 'advisory' and not granted and database = "
        "(select oid from pg_database where datname = current_database())) = 2"
    )
    with connect(database_url) as one, connect(database_url) as watching:
        until(watching, planned)
        with ListsLock(one, "project").alone(), ListsLock(one, "face").alone():
            until(watching, waiting)
            worker.kill()
