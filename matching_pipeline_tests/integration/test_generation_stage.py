"""Product pictures against a real database and a real folder: what is made, kept and said."""

from pathlib import Path

import pytest

from matching_pipeline.db.connections import Connection
from matching_pipeline_tests.fixtures.studio import TYPES, PaintGenerator, Studio


@pytest.fixture
def studio(connection: Connection, tmp_path: Path) -> Studio:
    return Studio(connection, tmp_path)


def test_a_pack_is_six_pictures_and_completes_its_project(studio: Studio, database_url: str) -> None:
    project = studio.project()
    job = studio.ask(project)
    assert studio.state(project) == "PENDING"
    generator = PaintGenerator(before=lambda _: states.append(studio.state(project)), concurrency=1)
    states: list[str] = []
    assert studio.drain(database_url, generator).completed == 1
    assert studio.job(job) == ("completed", None)
    assert studio.state(project) == "COMPLETED"
    assert set(states) == {"PROCESSING"}
    assert sorted(generator.asked) == sorted(TYPES)
    assert set(studio.pictures(project)) == set(TYPES)
    assert set(studio.pictures(project).values()) == studio.files()
