"""The declarations that `matching-pipeline init` writes can be loaded as they are. It overwrites nothing."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from matching_pipeline.cli.init import APPS, init_command, write_declarations
from matching_pipeline.components.folder import definitions_in
from matching_pipeline.sources.documents import load

ASSETS = {
    "marketplace": {"image_ai", "matches"},
    "face_match": {"face_matches"},
    "job_board": {"job_embeddings"},
    "studio": {"generated_images"},
}


def assets(folder: Path) -> set[str]:
    """The names of all assets but the app's tables."""
    names = {key.to_user_string() for key in definitions_in(folder / "defs").resolve_all_asset_keys()}
    return {name for name in names if "/" not in name}


@pytest.mark.parametrize("app", APPS)
def test_the_example_of_an_app_stands_alone(tmp_path: Path, app: str) -> None:
    assert all(is_new for _, is_new in write_declarations(tmp_path, [app]))
    assert assets(tmp_path) == ASSETS[app]
    assert load(tmp_path / "defs").sources


def test_all_examples_fit_together(tmp_path: Path) -> None:
    list(write_declarations(tmp_path, APPS))
    assert assets(tmp_path) == set().union(*ASSETS.values())


def test_the_neutral_example_can_be_loaded(tmp_path: Path) -> None:
    list(write_declarations(tmp_path))
    assert assets(tmp_path) == {"text_embeddings"}


def test_a_file_that_was_there_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "defs" / "studio").mkdir(parents=True)
    (tmp_path / "defs" / "studio" / "defs.yaml").write_text("mine")
    result = CliRunner().invoke(init_command, [str(tmp_path), "--app", "studio"])
    assert result.exit_code == 0
    assert "was there before and is left as it is" in result.output
    assert "matching-pipeline migrate" in result.output
    assert (tmp_path / "defs" / "studio" / "defs.yaml").read_text() == "mine"


@pytest.mark.parametrize("name", ["dg.toml", "pyproject.toml"])
def test_a_project_of_dagster_keeps_its_own_configuration(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("[tool.dg]\n")
    list(write_declarations(tmp_path / "src" / "shop"))
    assert not (tmp_path / "src" / "shop" / "dg.toml").exists()
    assert (tmp_path / "src" / "shop" / "defs" / "app" / "defs.yaml").exists()
