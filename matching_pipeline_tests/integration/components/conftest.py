"""The examples' definitions against a database of their own, with the sample marketplace's pictures."""

import shutil
from collections.abc import Iterator
from multiprocessing import forkserver as server
from pathlib import Path

import dagster as dg
import pytest

from matching_pipeline import examples
from matching_pipeline.components.checks import ReportedCheck
from matching_pipeline.components.generated_images import generated_asset
from matching_pipeline.components.instance import create_instance_tables, instance_url
from matching_pipeline.components.items import items_asset
from matching_pipeline.components.matches import matches_asset
from matching_pipeline.components.reports import reports
from matching_pipeline.components.resources import Pipeline
from matching_pipeline.db.connections import Connection
from matching_pipeline.db.files import ROOT
from matching_pipeline.definitions import defs
from matching_pipeline.sample_data.insert import insert_sample_data
from matching_pipeline_tests.conftest import EXAMPLES
from matching_pipeline_tests.fixtures.local_models import each_picture_once
from matching_pipeline_tests.integration.marketplace import Marketplace
from matching_pipeline_tests.integration.school import School

# those of `defs` are bound to its resources
IMAGE_AI = items_asset(EXAMPLES.images[0], EXAMPLES)
JOB_EMBEDDINGS = items_asset(EXAMPLES.texts[0], EXAMPLES)
MATCHES = matches_asset(EXAMPLES.matches[0], EXAMPLES)
GENERATED_IMAGES = generated_asset(EXAMPLES.generated[0], EXAMPLES)
CHECKS = {(check.asset, check.name): check for report in reports(EXAMPLES) for check in report.checks}
QUEUES = [queue for report in reports(EXAMPLES) for queue in report.detects]
"""Those that have a sensor."""


def examples_pipeline() -> Pipeline:
    return Pipeline(definitions_dir=str(examples.FOLDER))


def check(asset: str, name: str) -> ReportedCheck:
    return CHECKS[asset, name]


def sensor(queue: str) -> dg.SensorDefinition:
    return defs.get_repository_def().get_sensor_def(f"{queue}_sensor")


@pytest.fixture(autouse=True, scope="module")
def local_models() -> Iterator[None]:
    with each_picture_once():
        yield


@pytest.fixture
def pipeline(monkeypatch: pytest.MonkeyPatch, database_url: str) -> Pipeline:
    monkeypatch.setenv("DATABASE_URL", database_url)
    return examples_pipeline()


@pytest.fixture
def sample_rows(connection: Connection) -> None:
    insert_sample_data(connection)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


@pytest.fixture
def postgres_instance(
    monkeypatch: pytest.MonkeyPatch, database_url: str, connection: Connection, tmp_path: Path
) -> Iterator[dg.DagsterInstance]:
    """That of a deployment, with its settings in the environment."""
    connection.execute("create schema if not exists dagster")
    create_instance_tables(instance_url(database_url))
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("DAGSTER_POSTGRES_URL", instance_url(database_url))
    shutil.copy(ROOT / "dagster.yaml", tmp_path)
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        yield instance


@pytest.fixture
def matched(connection: Connection, database_url: str) -> None:
    """A project and a product that match, and two faces; their pairs are missing."""
    market, school = Marketplace(connection), School(connection, database_url)
    for kind in ("project", "product"):
        market.add_image(kind, market.add(kind), (1, 0, 0))
    school.face_of("male"), school.face_of("female")
    school.process()
    connection.execute("delete from matching_pipeline.matches")
    connection.execute("delete from matching_pipeline.jobs")


@pytest.fixture
def forkserver() -> Iterator[None]:
    """The process that steps and workers are forked from: it keeps the environment of the test that starts it."""
    stop = server._forkserver._stop  # type: ignore[attr-defined]
    stop()
    yield
    stop()
