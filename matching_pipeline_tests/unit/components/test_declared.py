"""Dagster shows all that is declared, and nothing else."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

import matching_pipeline
from matching_pipeline import examples
from matching_pipeline.components.folder import definitions_in
from matching_pipeline.components.resources import Pipeline
from matching_pipeline.sources.declarations import KINDS
from matching_pipeline_tests.unit.components.conftest import Load

WORKER = {"worker", "process_now", "cleanup"}

POSTINGS = """
type: matching_pipeline.Source
attributes: {name: posting, table: public.jobs, text: [t.title]}
---
type: matching_pipeline.TextEmbeddings
attributes: {name: job_embeddings, sources: [posting]}
"""
PEOPLE = """
type: matching_pipeline.Source
attributes: {name: face, table: public.faces, when: t.side = 'left', vector: embedding, properties: {side: t.side}}
---
type: matching_pipeline.Matches
attributes:
  name: people
  matchers: [{name: best_face, left: face, right: face, columns: [a, b], opposite: {side: [left, right]}}]
"""
PRODUCTS = """
type: matching_pipeline.Source
attributes:
  name: product
  table: shop.products
  when: t.state = 'open'
  pictures: {table: shop.photos, entity: product_id, url: url}
---
type: matching_pipeline.Source
attributes: {name: wish, table: shop.wishes, pictures: {table: shop.photos, entity: wish_id, url: url}}
---
type: matching_pipeline.ImageEmbeddings
attributes: {name: photos, sources: [product, wish]}
---
type: matching_pipeline.Matches
attributes:
  name: wishes
  matchers: [{name: wish, left: wish, right: product, columns: [a, b]}]
"""


def shown(defs: dg.Definitions) -> dict[str, set[str]]:
    """The names of all that the UI shows."""
    repository = defs.get_repository_def()
    graph = defs.resolve_asset_graph()
    return {
        "assets": {key.to_user_string() for key in graph.get_all_asset_keys()},
        "checks": {f"{key.asset_key.to_user_string()}.{key.name}" for key in graph.asset_check_keys},
        "sensors": {sensor.name for sensor in repository.sensor_defs},
        "jobs": {name for name in repository.job_names if not name.startswith("__")},
        "schedules": {schedule.name for schedule in repository.schedule_defs},
    }


def test_importing_the_package_imports_no_dagster() -> None:
    code = "import matching_pipeline, sys; assert 'dagster' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", matching_pipeline.COMPONENTS)
def test_a_component_is_found_by_its_type_and_takes_the_fields_of_the_declaration(name: str) -> None:
    component = getattr(matching_pipeline, name)
    assert issubclass(component, dg.Component)
    if name != "Worker":
        assert component.get_model_cls() is KINDS[name]
    assert component.get_description()


def test_an_unknown_name_of_the_package_is_refused() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Sauce'"):
        matching_pipeline.Sauce  # noqa: B018


def test_dagster_lists_the_components_of_the_package() -> None:
    from dagster.components.core.package_entry import get_package_objects_in_module

    found = {name for name, _ in get_package_objects_in_module(matching_pipeline)}
    assert found == set(matching_pipeline.COMPONENTS)


def test_dagster_can_describe_each_component() -> None:
    """It does so for every installed component whenever it loads any project."""
    from dagster.components.core.snapshot import get_package_entry_snap
    from dagster_shared.serdes.objects import EnvRegistryKey
    from dagster_shared.serdes.objects.package_entry import json_for_all_components

    keys = [EnvRegistryKey(namespace="matching_pipeline", name=name) for name in matching_pipeline.COMPONENTS]
    snaps = [get_package_entry_snap(key, getattr(matching_pipeline, key.name)) for key in keys]
    (described,) = json_for_all_components(snaps)
    assert len(described["componentTypes"]) == len(matching_pipeline.COMPONENTS)


def test_the_examples_show_four_assets_with_their_checks_and_sensors() -> None:
    names = shown(definitions_in(examples.FOLDER))
    derived = {name for name in names["assets"] if "/" not in name}
    assert derived == {"image_ai", "job_embeddings", "matches", "generated_images"}
    assert names["sensors"] == {
        *("image_ai_sensor", "job_embeddings_sensor", "generated_images_sensor", "worker_sensor"),
        *("matches_project_sensor", "matches_face_sensor", "publishing_sensor"),
    }
    assert names["jobs"] == {*WORKER, "nightly"}
    assert names["schedules"] == {"nightly_schedule", "cleanup_schedule"}
    embeddings = ("every_entity_is_accounted_for", "no_failed_jobs", "no_failed_shadow_jobs", "model_is_unchanged")
    matches = (
        *("every_pair_holds", "no_failed_project_jobs", "no_failed_face_jobs", "sampled_lists_are_exact"),
        *("project_is_published", "face_is_published"),
    )
    pictures = ("every_asked_picture_is_accounted_for", "every_picture_has_its_file", "no_failed_jobs")
    assert names["checks"] == {
        *(f"image_ai.{check}" for check in embeddings),
        *(f"job_embeddings.{check}" for check in embeddings),
        *(f"matches.{check}" for check in matches),
        *(f"generated_images.{check}" for check in pictures),
        *("public/listings.project_is_attached", "public/products.product_is_attached"),
        *("public/faces.face_is_attached", "public/jobs.posting_is_attached"),
        "public/projects.studio_project_is_attached",
    }


def test_one_embeddings_asset_shows_nothing_of_matches(load: Load) -> None:
    assert shown(load(app=POSTINGS)) == {
        "assets": {"public/jobs", "job_embeddings"},
        "checks": {
            "job_embeddings.every_entity_is_accounted_for",
            "job_embeddings.no_failed_jobs",
            "job_embeddings.no_failed_shadow_jobs",
            "job_embeddings.model_is_unchanged",
            "public/jobs.posting_is_attached",
        },
        "sensors": {"job_embeddings_sensor", "worker_sensor"},
        "jobs": WORKER,
        "schedules": {"cleanup_schedule"},
    }


def test_the_nightly_job_has_the_embeddings_and_matches_of_all_files(load: Load) -> None:
    defs = load(people=PEOPLE, postings=POSTINGS, products=PRODUCTS)
    job = defs.resolve_job_def("nightly")
    keys = {key.to_user_string() for key in job.asset_layer.executable_asset_keys}
    assert keys == {"job_embeddings", "photos", "people", "wishes"}
    assert job.executor_def.name == "multiprocess"
    assert shown(defs)["schedules"] == {"nightly_schedule", "cleanup_schedule"}


def test_matches_come_after_embeddings_and_the_tables_of_vectors(load: Load) -> None:
    graph = load(people=PEOPLE, products=PRODUCTS).resolve_asset_graph()
    assert graph.get(dg.AssetKey("people")).parent_keys == {dg.AssetKey(["public", "faces"])}
    assert graph.get(dg.AssetKey("wishes")).parent_keys == {dg.AssetKey("photos")}
    assert graph.get(dg.AssetKey("photos")).parent_keys == {dg.AssetKey(["shop", "photos"])}


def test_a_declared_worker_comes_once(load: Load) -> None:
    assert shown(load(app=POSTINGS, worker="type: matching_pipeline.Worker"))["jobs"] == WORKER


def test_the_worker_reads_the_declarations_of_its_folder(load: Load, tmp_path: Path) -> None:
    resources = load(app=POSTINGS).resources
    assert resources is not None
    pipeline: Any = resources["pipeline"]
    assert isinstance(pipeline, Pipeline)
    assert pipeline.definitions_dir == str(tmp_path / "defs")
    assert [each.name for each in pipeline.declarations.texts] == ["job_embeddings"]


def test_python_files_of_the_folder_are_loaded_too(load: Load, tmp_path: Path) -> None:
    (tmp_path / "defs").mkdir()
    (tmp_path / "defs" / "more.py").write_text("import dagster as dg\n\n@dg.asset\ndef report(): ...\n")
    assert "report" in shown(load(app=POSTINGS))["assets"]


def test_without_declarations_there_is_nothing(tmp_path: Path) -> None:
    assert not any(shown(definitions_in(tmp_path)).values())


def test_an_attribute_that_there_is_not_is_named_with_its_file_and_line(load: Load) -> None:
    with pytest.raises(Exception, match="Error while loading component") as raised:
        load(app="type: matching_pipeline.Source\nattributes:\n  name: posting\n  tabel: public.jobs\n")
    told = f"{raised.value} {raised.value.__cause__}"
    assert "tabel" in told
    assert "defs.yaml:4" in told


def test_declarations_that_do_not_fit_together_are_refused(load: Load) -> None:
    with pytest.raises(Exception, match="Error while building definitions") as raised:
        load(app="type: matching_pipeline.TextEmbeddings\nattributes: {name: texts, sources: [nothing]}")
    assert "there is no source nothing" in str(raised.value.__cause__)
