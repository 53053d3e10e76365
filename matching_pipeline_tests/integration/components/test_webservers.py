"""Two webservers of one deployment."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import dagster as dg
import pytest
from dagster._core.remote_origin import InProcessCodeLocationOrigin
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import InProcessWorkspaceLoadTarget
from starlette.testclient import TestClient

from matching_pipeline.db.connections import Connection

SELECTED = {"repositoryLocationName": "matching_pipeline", "repositoryName": "__repository__"}
LAUNCH = """mutation($selector: JobOrPipelineSelector!) {
    launchRun(executionParams: {
        selector: $selector, runConfigData: {ops: {process_queue: {config: {queue: "image_ai"}}}}
    }) { __typename ... on LaunchRunSuccess { run { runId } } }
}"""
RUNS = "{ runsOrError { ... on Runs { results { runId status } } } }"
ASK = """mutation($selector: SensorSelector!) {
    sensorDryRun(selectorData: $selector, cursor: null) {
        ... on DryRunInstigationTick { evaluationResult { runRequests { jobName } } }
    }
}"""


class Webserver:
    """Dagster's, with the code location in this process."""

    def __init__(self, instance: dg.DagsterInstance, stack: ExitStack) -> None:
        # each worker would spend a second to import it
        from dagster_webserver.webserver import DagsterWebserver

        module = LoadableTargetOrigin(module_name="matching_pipeline.definitions", attribute="defs")
        location = InProcessCodeLocationOrigin(module, location_name=SELECTED["repositoryLocationName"])
        workspace = WorkspaceProcessContext(instance, InProcessWorkspaceLoadTarget(location))
        self._client = TestClient(DagsterWebserver(stack.enter_context(workspace)).create_asgi_app())

    def ask(self, query: str, **selector: str) -> Any:
        variables = {"selector": {**SELECTED, **selector}} if selector else {}
        reply = self._client.post("/graphql", json={"query": query, "variables": variables}).json()
        assert "errors" not in reply, json.dumps(reply)
        (found,) = reply["data"].values()
        return found


@pytest.fixture
def webservers(postgres_instance: dg.DagsterInstance) -> Iterator[list[Webserver]]:
    with ExitStack() as stack:
        yield [Webserver(postgres_instance, stack) for _ in range(2)]


def test_each_launch_is_one_run_and_both_ask_for_one_worker(
    webservers: list[Webserver], connection: Connection
) -> None:
    with ThreadPoolExecutor() as pool:
        launched = list(pool.map(lambda each: each.ask(LAUNCH, pipelineName="process_now"), webservers))
        asked = list(pool.map(lambda each: each.ask(ASK, sensorName="worker_sensor"), webservers))
    runs = {each["run"]["runId"]: "QUEUED" for each in launched}
    assert len(runs) == 2
    for webserver in webservers:
        assert {run["runId"]: run["status"] for run in webserver.ask(RUNS)["results"]} == runs
    (requests,) = [found for each in asked if (found := each["evaluationResult"]["runRequests"])]
    assert len(requests) == 1
    assert connection.execute("select count(*) from matching_pipeline.workers").fetchone() == (1,)
