"""Dagster's definitions against a database of their own, with the sample marketplace's pictures."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from matching_pipeline.components.resources import Pipeline
from matching_pipeline.db.connections import Connection
from matching_pipeline.sample_data.insert import insert_sample_data


@pytest.fixture(scope="session")
def sample_pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sample_pictures")


@pytest.fixture
def pipeline(monkeypatch: pytest.MonkeyPatch, database_url: str, sample_pictures: Path) -> Pipeline:
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("IMAGE_FILE_ROOTS", str(sample_pictures))
    return Pipeline()


@pytest.fixture
def sample_rows(connection: Connection, sample_pictures: Path) -> None:
    insert_sample_data(connection, sample_pictures)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance
