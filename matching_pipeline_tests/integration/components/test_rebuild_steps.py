"""A rebuild in Dagster: each shard is a step of either executor, and fails and runs again alone."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest

from matching_pipeline.components.matches import daily
from matching_pipeline.db.connections import Connection
from matching_pipeline.definitions import defs
from matching_pipeline.errors import ConfigurationError
from matching_pipeline.matches import rebuilds
from matching_pipeline_tests.integration.components.conftest import MATCHES, examples_pipeline

ONLY_MATCHES = dg.AssetSelection.assets(MATCHES).without_checks()


def in_process() -> dg.JobDefinition:
    return rebuild_job(dg.in_process_executor)


def multiprocess() -> dg.JobDefinition:
    # a process a step, forked from one that has imported what they need
    server = {"forkserver": {"preload_modules": ["matching_pipeline.definitions"]}}
    return rebuild_job(dg.multiprocess_executor.configured({"start_method": server}))


def rebuild_job(executor: dg.ExecutorDefinition) -> dg.JobDefinition:
    job = dg.define_asset_job("rebuild", selection=ONLY_MATCHES, executor_def=executor)
    resources = {"pipeline": examples_pipeline()}
    return dg.Definitions(assets=[MATCHES], jobs=[job], resources=resources).resolve_job_def("rebuild")


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """An instance that other processes can open."""
    with dg.instance_for_test(temp_dir=str(tmp_path)) as instance:
        yield instance


FAIL_ONCE = """
create sequence tried;
create function fail_once() returns trigger language plpgsql as $$
begin
    if nextval('public.tried') = 1 then
        raise exception 'a fault';
    end if;
    return new;
end
$$;
create trigger fault before insert on matching_pipeline.matches
for each row when (new.matcher = 'face') execute function fail_once();
"""


def execute(
    instance: dg.DagsterInstance, job: Callable[[], dg.JobDefinition], again: str | None = None
) -> dg.JobExecutionResult:
    options = dg.ReexecutionOptions.from_failure(again, instance) if again else None
    return dg.execute_job(
        dg.reconstructable(job),
        instance,
        tags={"dagster/partition": daily.get_last_partition_key()},
        reexecution_options=options,
    )


def steps(result: dg.JobExecutionResult, kind: dg.DagsterEventType) -> Counter[str]:
    """By step, without the rebuilds' numbers."""
    keys = [str(event.step_key) for event in result.all_events if event.event_type == kind]
    return Counter(key.removeprefix("matches.").split("_1]")[0] for key in keys)


@pytest.mark.usefixtures("matched", "pipeline", "forkserver")
@pytest.mark.parametrize("job", [in_process, multiprocess])
def test_a_failed_shard_is_retried_alone(
    instance: dg.DagsterInstance, connection: Connection, job: Callable[[], dg.JobDefinition]
) -> None:
    connection.execute(FAIL_ONCE.encode())
    result = execute(instance, job)
    assert result.success
    shards = {"rebuild_shard[project_1": 1, "rebuild_shard[face_2": 1}
    assert steps(result, dg.DagsterEventType.STEP_UP_FOR_RETRY) == {"rebuild_shard[face_2": 1}
    assert steps(result, dg.DagsterEventType.STEP_SUCCESS) == {"plan": 1, **shards, "report": 1}
    (event,) = [event for event in result.all_events if event.is_step_materialization]
    metadata = event.step_materialization_data.materialization.metadata
    assert (metadata["shards"].value, metadata["lists"].value, metadata["added"].value) == (2, 3, 2)
    assert (metadata["project added"].value, metadata["face added"].value) == (1, 1)
    assert connection.execute("select matcher from matching_pipeline.matches order by matcher").fetchall() == [
        ("face",),
        ("project",),
    ]


@pytest.mark.usefixtures("matched", "pipeline")
def test_a_re_execution_from_failure_runs_the_failed_shard_alone(
    instance: dg.DagsterInstance, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = rebuilds.run

    def refuse(connection: Connection, shard: rebuilds.Shard, publish: rebuilds.Publish) -> object:
        if shard.matcher == "face":
            raise ConfigurationError("something that a person must correct")
        return run(connection, shard, publish)

    with monkeypatch.context() as broken:
        broken.setattr(rebuilds, "run", refuse)
        failed = execute(instance, in_process)
    assert not failed.success
    assert steps(failed, dg.DagsterEventType.STEP_FAILURE) == {"rebuild_shard[face_2": 1}
    assert connection.execute("select matcher from matching_pipeline.matches").fetchall() == [("project",)]

    repaired = execute(instance, in_process, again=failed.run_id)
    assert steps(repaired, dg.DagsterEventType.STEP_SUCCESS) == {"rebuild_shard[face_2": 1, "report": 1}
    (event,) = [event for event in repaired.all_events if event.is_step_materialization]
    assert event.step_materialization_data.materialization.metadata["added"].value == 2
    assert connection.execute("select count(*) from matching_pipeline.matches").fetchone() == (2,)


@pytest.mark.usefixtures("matched", "pipeline")
def test_a_run_whose_rebuild_is_superseded_fails_without_a_retry_and_names_the_newer(
    instance: dg.DagsterInstance, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = rebuilds.begin

    def begin_twice(
        connection: Connection, matcher: str, plan: rebuilds.Plan, begun_by: str | None = None
    ) -> list[rebuilds.Shard]:
        shards = begin(connection, matcher, plan, begun_by)
        begin(connection, matcher, plan)
        return shards

    monkeypatch.setattr(rebuilds, "begin", begin_twice)
    result = execute(instance, in_process)
    assert not result.success
    assert not steps(result, dg.DagsterEventType.STEP_UP_FOR_RETRY)
    failures = [event.step_failure_data for event in result.all_events if event.is_step_failure]
    told = json.dumps([str(failure.user_failure_data) for failure in failures])
    assert "rebuild 1 of the matcher project was superseded by rebuild 2" in told
    assert "rebuild 3 of the matcher face was superseded by rebuild 4" in told
    assert connection.execute("select from matching_pipeline.matches").fetchall() == []


def test_the_nightly_rebuild_runs_its_shards_in_processes_of_their_own() -> None:
    assert defs.resolve_job_def("nightly").executor_def.name == "multiprocess"
