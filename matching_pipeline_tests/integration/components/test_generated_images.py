"""The asset `generated_images` in Dagster: what a run shows, what starts one, what checks find."""

import os
import time
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from matching_pipeline.components.generated_images import PacksConfig
from matching_pipeline.components.resources import Pipeline
from matching_pipeline.db.connections import Connection
from matching_pipeline.definitions import defs
from matching_pipeline_tests.fixtures.studio import TYPES, Studio
from matching_pipeline_tests.integration.components.conftest import GENERATED_IMAGES, check, sensor

every_asked_picture_is_accounted_for = check("generated_images", "every_asked_picture_is_accounted_for")
every_picture_has_its_file = check("generated_images", "every_picture_has_its_file")
no_failed_pictures = check("generated_images", "no_failed_jobs")


@pytest.fixture
def studio(connection: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Studio:
    studio = Studio(connection, tmp_path)
    monkeypatch.setenv("IMAGE_FILE_ROOTS", str(tmp_path))
    monkeypatch.setenv("GENERATED_IMAGES_URL", studio.made.as_uri())
    return studio


def materialize(pipeline: Pipeline, instance: dg.DagsterInstance, **config: Any) -> dict[str, Any]:
    result = dg.materialize(
        [GENERATED_IMAGES],
        resources={"pipeline": pipeline},
        instance=instance,
        run_config=dg.RunConfig({"generated_images": PacksConfig(**config)}),
    )
    last = result.asset_materializations_for_node("generated_images")[-1]
    return {name: value.value for name, value in last.metadata.items()}


def test_a_run_makes_the_packs_named_in_the_launchpad_and_shows_the_newest(
    pipeline: Pipeline, instance: dg.DagsterInstance, studio: Studio
) -> None:
    project = studio.project()
    shown = materialize(pipeline, instance, packs=[str(project)])
    assert (shown["completed"], shown["covered"], shown["unaccounted"]) == (1, 6, 0)
    assert shown["cost in USD"] == 0
    assert shown["types"].count("\n") == 7
    assert str(project) in shown["newest pack"]
    assert "![](data:image/jpeg;base64," in shown["newest pack"]
    assert set(studio.pictures(project)) == set(TYPES)


def test_a_run_without_a_request_makes_nothing(
    pipeline: Pipeline, instance: dg.DagsterInstance, studio: Studio
) -> None:
    studio.project()
    assert materialize(pipeline, instance)["completed"] == 0


def test_a_request_starts_the_worker(pipeline: Pipeline, instance: dg.DagsterInstance, studio: Studio) -> None:
    context = dg.build_sensor_context(instance=instance, resources={"pipeline": pipeline}, definitions=defs)
    assert isinstance(sensor("generated_images")(context), dg.SkipReason)
    studio.ask(studio.project())
    assert isinstance(sensor("generated_images")(context), dg.RunRequest)


def test_a_picture_that_was_asked_for_and_is_lost_is_found(
    pipeline: Pipeline, studio: Studio, database_url: str
) -> None:
    studio.ask(studio.project())
    assert every_asked_picture_is_accounted_for.evaluate(pipeline).passed
    studio.work(database_url)
    assert every_asked_picture_is_accounted_for.evaluate(pipeline).metadata["covered"].value == 6
    studio.run("delete from matching_pipeline.generated_images where image_type = 'scale'")
    result = every_asked_picture_is_accounted_for.evaluate(pipeline)
    assert not result.passed
    assert result.metadata["unaccounted"].value == 1


def test_a_file_that_is_gone_is_found(pipeline: Pipeline, studio: Studio, database_url: str) -> None:
    studio.ask(studio.project())
    studio.work(database_url)
    assert every_picture_has_its_file.evaluate(pipeline).passed
    next(path for path in studio.made.rglob("*.png")).unlink()
    result = every_picture_has_its_file.evaluate(pipeline)
    assert not result.passed
    assert "no such file" in (result.description or "")


def test_a_job_that_failed_is_accounted_for_and_warned_of(
    pipeline: Pipeline, studio: Studio, database_url: str
) -> None:
    assert no_failed_pictures.evaluate(pipeline).passed
    studio.ask(studio.project((studio.folder / "gone.png").as_uri()))
    studio.work(database_url)
    assert every_asked_picture_is_accounted_for.evaluate(pipeline).passed
    result = no_failed_pictures.evaluate(pipeline)
    assert not result.passed
    assert "matching-pipeline retry generated_images --all" in (result.description or "")


def test_cleanup_deletes_old_files_that_no_row_names(
    pipeline: Pipeline, instance: dg.DagsterInstance, studio: Studio, database_url: str
) -> None:
    studio.ask(studio.project())
    studio.work(database_url)
    studio.run("delete from projects")
    for path in studio.made.rglob("*.png"):
        os.utime(path, (time.time() - 2 * 86400,) * 2)
    job = defs.resolve_job_def("cleanup")
    assert job.execute_in_process(instance=instance, resources={"pipeline": pipeline}).success
    assert not studio.files()
