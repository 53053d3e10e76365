"""Dagster's definitions against a database of their own, with the sample marketplace's pictures."""

from collections.abc import Iterator

import dagster as dg
import pytest

from matching_pipeline.components.resources import Pipeline
from matching_pipeline.db.connections import Connection
from matching_pipeline.sample_data.insert import insert_sample_data


@pytest.fixture
def pipeline(monkeypatch: pytest.MonkeyPatch, database_url: str) -> Pipeline:
    monkeypatch.setenv("DATABASE_URL", database_url)
    return Pipeline()


@pytest.fixture
def sample_rows(connection: Connection) -> None:
    insert_sample_data(connection)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance
