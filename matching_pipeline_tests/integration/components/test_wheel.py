"""The wheel, installed beside somebody's own Dagster project, which declares components of ours."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

PROJECT = """
[tool.dg]
directory_type = "project"

[tool.dg.project]
root_module = "shop"
"""
DEFINITIONS = """
from pathlib import Path
import dagster as dg

defs = dg.load_from_defs_folder(path_within_project=Path(__file__).parent)
"""
DECLARATIONS = """
type: matching_pipeline.Source
attributes:
  name: offer
  table: public.offers
  when: t.state = 'open'
  pictures: {table: public.pictures, entity: offer_id, url: url}
---
type: matching_pipeline.Source
attributes: {name: wish, table: public.wishes, pictures: {table: public.pictures, entity: wish_id, url: url}}
---
type: matching_pipeline.ImageEmbeddings
attributes: {name: photos, sources: [offer, wish]}
---
type: matching_pipeline.Matches
attributes:
  matchers: [{name: wish, left: wish, right: offer, columns: [wish_id, offer_id]}]
---
type: matching_pipeline.Worker
"""
SHOW = """
import json, sys
import matching_pipeline
from importlib.metadata import entry_points
from shop.definitions import defs

repository = defs.get_repository_def()
json.dump({
    "file": matching_pipeline.__file__,
    "registered": [point.value for point in entry_points(group="dagster_dg_cli.registry_modules")],
    "assets": sorted(key.to_user_string() for key in defs.resolve_all_asset_keys()),
    "jobs": sorted(name for name in repository.job_names if not name.startswith("__")),
    "sensors": sorted(sensor.name for sensor in repository.sensor_defs),
    "folder": defs.resources["pipeline"].definitions_dir,
    "declared": [each.name for each in defs.resources["pipeline"].declarations.images],
}, sys.stdout)
"""
SHOW_NEW = """
from pathlib import Path
import dagster as dg
from matching_pipeline.cli.init import write_declarations
from matching_pipeline.definitions import defs

print(*defs.resolve_all_asset_keys())
list(write_declarations(Path(), ["marketplace", "face_match"]))
print(*dg.load_from_defs_folder(path_within_project=Path()).resolve_all_asset_keys())
"""


def run(*command: str | Path, folder: Path | None = None) -> str:
    """Its output, in an environment that names no database and no folder of Python files."""
    environment = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "PYTHONPATH")}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "their project"
    for path, text in {
        "pyproject.toml": PROJECT,
        "shop/__init__.py": "",
        "shop/definitions.py": DEFINITIONS,
        "shop/defs/__init__.py": "",
        "shop/defs/app/defs.yaml": DECLARATIONS,
        "shop/defs/own.py": "import dagster as dg\n\n@dg.asset(deps=['matches'])\ndef report(): ...\n",
    }.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return folder


def test_a_project_of_somebody_else_shows_what_it_declares(installed_python: Path, project: Path) -> None:
    shown: dict[str, Any] = json.loads(run(installed_python, "-c", SHOW, folder=project))
    assert Path(shown["file"]).is_relative_to(installed_python.parents[1])
    assert "matching_pipeline" in shown["registered"]
    tables = ["public/offers", "public/pictures", "public/wishes"]
    assert shown["assets"] == ["matches", "photos", *tables, "report"]
    assert shown["jobs"] == ["cleanup", "nightly", "process_now", "worker"]
    assert shown["sensors"] == ["matches_wish_sensor", "photos_sensor", "worker_sensor"]
    assert shown["folder"] == str(project / "shop" / "defs")
    assert shown["declared"] == ["photos"]


def test_dagster_finds_no_fault_in_it(installed_python: Path, project: Path) -> None:
    run(installed_python, "-m", "dagster", "definitions", "validate", "-m", "shop.definitions", folder=project)


def test_the_examples_are_loaded_where_nothing_is_declared_and_what_init_writes_is_a_project(
    installed_python: Path, tmp_path: Path
) -> None:
    examples, written = run(installed_python, "-c", SHOW_NEW, folder=tmp_path).splitlines()
    assert "job_embeddings" in examples
    assert all(name in written for name in ("image_ai", "matches", "face_matches"))
