"""A campus of the face-match app, and Dagster beside it."""

from collections.abc import Iterator
from uuid import UUID

import dagster as dg
import pytest

from matching_pipeline.components.resources import Pipeline
from matching_pipeline.db.connections import Connection
from matching_pipeline_tests.acceptance.face_app import FaceApp
from matching_pipeline_tests.integration.components.conftest import examples_pipeline


@pytest.fixture
def app(connection: Connection, database_url: str) -> FaceApp:
    return FaceApp(connection, database_url)


@pytest.fixture
def pipeline(monkeypatch: pytest.MonkeyPatch, database_url: str) -> Pipeline:
    monkeypatch.setenv("DATABASE_URL", database_url)
    return examples_pipeline()


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


@pytest.fixture
def campus(app: FaceApp) -> dict[str, UUID]:
    """Faces, already matched, of users that might be mistaken for a match of user A."""
    faces = {
        "a UIT female": app.face_of("female", (1, 0.1)),
        "another UIT female": app.face_of("female", (1, 0.2)),
        "a UIT female who looks different": app.face_of("female", (0.1, 1)),
        "a UIT male": app.face_of("male", (1, 0)),
        "a HUST female": app.face_of("female", (1, 0), school="HUST"),
        "a UIT celebrity": app.face(app.user("female", profile_type="celebrity"), (1, 0)),
        "somebody of another gender": app.face_of("other", (1, 0)),
    }
    app.process()
    app.settle()
    return faces


@pytest.fixture
def photo(app: FaceApp, campus: dict[str, UUID]) -> UUID:
    """Uploaded as user A, a male of UIT."""
    return app.upload(app.user("male", "UIT"))
