"""A rebuild in shards that Celery places on one worker, and on two, of one thread each."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import dagster as dg

from benchmarks.face_data import Faces
from matching_pipeline import examples
from matching_pipeline.components.instance import create_instance_tables, instance_url
from matching_pipeline.components.matches import daily, matches_asset
from matching_pipeline.components.placement import step_executor
from matching_pipeline.components.resources import Pipeline
from matching_pipeline.db.connections import connect
from matching_pipeline.db.files import ROOT
from matching_pipeline.settings import Settings
from matching_pipeline.sources.documents import load

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def rebuild() -> dg.JobDefinition:
    declarations = load(examples.FOLDER)
    asset = matches_asset(declarations.matches[0], declarations)
    job = dg.define_asset_job("rebuild", selection=[asset], executor_def=step_executor(Settings()))
    resources = {"pipeline": Pipeline(definitions_dir=str(examples.FOLDER))}
    return dg.Definitions(assets=[asset], jobs=[job], resources=resources).resolve_job_def("rebuild")


def main(database_url: str, faces: int, schools: int) -> None:
    with connect(database_url) as connection:
        connection.execute("set session_replication_role = replica")
        Faces(faces, schools).insert(connection)
        connection.execute("set session_replication_role = origin")
        connection.execute("vacuum analyze")
        connection.execute("create schema if not exists dagster")
    create_instance_tables(instance_url(database_url))
    os.environ |= {
        "STEP_EXECUTOR": "celery",
        "DATABASE_URL": database_url,
        "DAGSTER_POSTGRES_URL": instance_url(database_url),
    }
    os.environ["DEFINITIONS_DIR"] = str(examples.FOLDER)
    print(f"\n## A rebuild of {faces} faces on Celery workers of one thread\n")
    print("| workers | shards | seconds from the first start to the last end | busy seconds |\n|---|---|---|---|")
    for count in (1, 2):
        with tempfile.TemporaryDirectory() as folder, workers(Path(folder), count), instance(Path(folder)) as dagster:
            with connect(database_url) as connection:
                connection.execute("truncate matching_pipeline.matches")
                connection.execute("truncate public.matches")
            tags = {"dagster/partition": daily.get_last_partition_key()}
            result = dg.execute_job(dg.reconstructable(rebuild), dagster, tags=tags)
            print(f"| {count} | {told(dagster, result.run_id, database_url)} |")


def told(instance: dg.DagsterInstance, run_id: str, database_url: str) -> str:
    stats = [each for each in instance.get_run_step_stats(run_id) if "rebuild_shard" in each.step_key]
    began = min(each.start_time or 0 for each in stats)
    ended = max(each.end_time or 0 for each in stats)
    with connect(database_url) as connection:
        busy = connection.execute(
            "select sum(seconds) from matching_pipeline.rebuild_shards "
            "join matching_pipeline.rebuilds on number = rebuild where begun_by = %s",
            (run_id,),
        ).fetchone() or (0,)
    return f"{len(stats)} | {ended - began:.1f} | {busy[0]:.1f}"


@contextmanager
def instance(folder: Path) -> Iterator[dg.DagsterInstance]:
    (folder / "dagster.yaml").write_text((ROOT / "dagster.yaml").read_text())
    with dg.DagsterInstance.from_config(str(folder)) as opened:
        yield opened


@contextmanager
def workers(folder: Path, count: int) -> Iterator[None]:
    command = [sys.executable, "-m", "celery", "-A", "matching_pipeline.components.celery_app", "worker"]
    with ExitStack() as stack:
        for name in map(str, range(count)):
            own = folder / name
            own.mkdir()
            environment = {**os.environ, **ONE_THREAD, "DAGSTER_HOME": str(own), "PYTHONPATH": str(Path.cwd())}
            log = stack.enter_context((own / "log").open("w"))
            process = subprocess.Popen(
                [*command, "--concurrency", "1", "--hostname", name],
                cwd=own, env=environment, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
            stack.callback(process.wait)
            stack.callback(os.killpg, process.pid, signal.SIGKILL)
        yield
