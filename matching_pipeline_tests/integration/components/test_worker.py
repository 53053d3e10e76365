"""The run that serves all queues: what it reports, and how it ends."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import dagster as dg
import pytest

from matching_pipeline.components import reporting
from matching_pipeline.components import worker as component
from matching_pipeline.components.matches import daily
from matching_pipeline.components.reports import reports
from matching_pipeline.components.resources import Pipeline
from matching_pipeline.components.worker import QueueConfig, process_now, worker
from matching_pipeline.db.connections import Connection, connect
from matching_pipeline.handlers import registry
from matching_pipeline.queues import client, standing
from matching_pipeline.sources.declarations import Declarations
from matching_pipeline_tests.conftest import EXAMPLES
from matching_pipeline_tests.integration.components.conftest import CHECKS
from matching_pipeline_tests.integration.conftest import until


@pytest.fixture(autouse=True)
def short_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standing, "LOOK_SECONDS", 0.1)
    monkeypatch.setattr(standing, "REOPEN_SECONDS", (0.1, 0.2))
    monkeypatch.setattr(reporting, "GAP_SECONDS", 0.5)


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """One that several threads may use."""
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        yield instance


@pytest.fixture
def run(pipeline: Pipeline, instance: dg.DagsterInstance) -> Callable[[], dg.ExecuteInProcessResult]:
    def run() -> dg.ExecuteInProcessResult:
        return worker.execute_in_process(instance=instance, resources={"pipeline": pipeline}, raise_on_error=False)

    return run


@contextmanager
def running(
    run: Callable[[], dg.ExecuteInProcessResult], connection: Connection
) -> Iterator["Future[dg.ExecuteInProcessResult]"]:
    with ThreadPoolExecutor() as pool:
        future = pool.submit(run)
        try:
            until(connection, "exists (select from matching_pipeline.workers where entered_at is not null)")
            yield future
        finally:
            client.stop_all(connection)


def reported(instance: dg.DagsterInstance, asset: str) -> dict[str, Any] | None:
    event = instance.get_latest_materialization_event(dg.AssetKey(asset))
    if event is None or event.asset_materialization is None:
        return None
    return {name: value.value for name, value in event.asset_materialization.metadata.items()}


def await_report(instance: dg.DagsterInstance, asset: str) -> dict[str, Any]:
    deadline = time.monotonic() + 120
    while (found := reported(instance, asset)) is None:
        assert time.monotonic() < deadline
        # a look takes Dagster 20 ms of the processor
        time.sleep(0.5)
    return found


def latest_result(instance: dg.DagsterInstance, key: dg.AssetCheckKey) -> bool | None:
    """Whether the check passed, as the UI shows it."""
    records = instance.event_log_storage.get_asset_check_execution_history(key, limit=1)
    evaluation = records[0].event.asset_check_evaluation if records and records[0].event else None
    return evaluation.passed if evaluation else None


def all_done(connection: Connection) -> None:
    until(connection, "not exists (select from matching_pipeline.jobs where status in ('pending', 'processing'))")


@pytest.mark.usefixtures("sample_rows")
def test_it_does_all_that_waits_and_reports_each_asset_while_it_runs(
    run: Callable[[], dg.ExecuteInProcessResult], instance: dg.DagsterInstance, connection: Connection
) -> None:
    with running(run, connection) as future:
        for asset in ("image_ai", "job_embeddings", "matches", "generated_images"):
            assert await_report(instance, asset)["completed"] > 0
        all_done(connection)
        assert not future.done()
    result = future.result()
    assert result.success
    keys = {event.asset_key.to_user_string() for event in result.asset_materializations_for_node("serve_queues")}
    assert keys == {"image_ai", "job_embeddings", "matches", "generated_images"}
    partitions = {
        event.partition
        for event in result.asset_materializations_for_node("serve_queues")
        if event.asset_key == dg.AssetKey("matches")
    }
    assert partitions == {daily.get_last_partition_key()}
    assert {latest_result(instance, check.key) for check in CHECKS.values()} == {True}
    completed = sum(
        cast(int, event.metadata["completed"].value)
        for event in result.asset_materializations_for_node("serve_queues")
        if event.asset_key == dg.AssetKey("image_ai")
    )
    assert completed == 54


def test_a_check_whose_result_changes_is_reported_at_once(
    run: Callable[[], dg.ExecuteInProcessResult],
    instance: dg.DagsterInstance,
    connection: Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    key = dg.AssetCheckKey(dg.AssetKey("image_ai"), "no_failed_jobs")

    def await_passed(expected: bool) -> None:
        deadline = time.monotonic() + 120
        while latest_result(instance, key) is not expected:
            assert time.monotonic() < deadline
            time.sleep(0.05)

    with running(run, connection):
        connection.execute("insert into products (id) values (gen_random_uuid())")
        connection.execute(
            "insert into product_images (product_id, src) select id, 'file:///nowhere/at.all' from products"
        )
        await_passed(False)
        connection.execute("delete from products")
        connection.execute("insert into jobs (title) values ('Baker')")
        all_done(connection)


def test_a_queue_that_failed_fails_the_run_once_its_successor_serves(
    run: Callable[[], dg.ExecuteInProcessResult], connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = threading.Event()
    broken.set()
    opened = registry.open_handler

    def open_handler(settings: Any, database_url: str, declarations: Declarations, queue: str) -> Any:
        if queue == "matches_face" and broken.is_set():
            raise KeyError("a bug in the handler")
        return opened(settings, database_url, declarations, queue)

    monkeypatch.setattr(registry, "open_handler", open_handler)
    with running(run, connection) as failing:
        until(connection, "exists (select from matching_pipeline.workers where failures ? 'matches_face')")
        connection.execute("insert into jobs (title) values ('Baker')")
        all_done(connection)
        broken.clear()
        with ThreadPoolExecutor() as pool:
            successor = pool.submit(run)
            result = failing.result(timeout=60)
            assert not result.success
            failures = [event.event_specific_data for event in result.all_node_events if event.is_step_failure]
            assert "queue matches_face: KeyError: 'a bug in the handler'" in str(failures)
            client.stop_all(connection)
            assert successor.result(timeout=60).success


def test_a_report_that_fails_ends_no_worker(
    run: Callable[[], dg.ExecuteInProcessResult],
    instance: dg.DagsterInstance,
    connection: Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(pipeline: Pipeline) -> dict[str, Any]:
        raise ZeroDivisionError("a plot of nothing")

    some = [
        replace(each, describe=broken if each.key == "job_embeddings" else each.describe, checks=())
        for each in reports(EXAMPLES)
    ]
    monkeypatch.setattr(component, "reports", lambda declarations: some)
    with running(run, connection) as future:
        connection.execute("insert into jobs (title) values ('Baker')")
        all_done(connection)
        connection.execute("insert into jobs (title) values ('Welder')")
        all_done(connection)
    assert future.result().success


def test_process_now_works_beside_the_standing_worker(
    run: Callable[[], dg.ExecuteInProcessResult],
    pipeline: Pipeline,
    instance: dg.DagsterInstance,
    connection: Connection,
    database_url: str,
) -> None:
    with running(run, connection), connect(database_url) as other:
        other.execute("insert into jobs (title) select 'Baker ' || number from generate_series(1, 50) as number")
        result = process_now.execute_in_process(
            run_config=dg.RunConfig({"process_queue": QueueConfig(queue="job_embeddings")}),
            resources={"pipeline": pipeline},
            instance=instance,
        )
        assert result.success
        row = other.execute("select count(*) from job_embeddings").fetchone()
    assert row is not None
    assert row[0] >= 50


def test_process_now_names_the_queues_that_there_are(pipeline: Pipeline, instance: dg.DagsterInstance) -> None:
    result = process_now.execute_in_process(
        run_config=dg.RunConfig({"process_queue": QueueConfig(queue="unknown")}),
        resources={"pipeline": pipeline},
        instance=instance,
        raise_on_error=False,
    )
    (failure,) = (event for event in result.all_node_events if event.is_step_failure)
    assert "there is no queue 'unknown', only image_ai" in str(failure.event_specific_data)
