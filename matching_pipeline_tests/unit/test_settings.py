"""Settings that follow from others, and where they are read from."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from matching_pipeline import examples
from matching_pipeline.cli.dev import require_one_value_each
from matching_pipeline.db.files import ROOT
from matching_pipeline.errors import ConfigurationError
from matching_pipeline.settings import Settings


@pytest.mark.parametrize(
    ("database_url", "folder"),
    [
        ("postgresql://user:secret@db.example.com:5432/shop", "db.example.com_shop"),
        ("host=db.example.com user=user password=secret dbname=shop", "db.example.com_shop"),
        ("postgresql://user@db.example.com/staging", "db.example.com_staging"),
        ("postgresql://postgres:@/postgres?host=/home/user/.data/postgres", "postgres"),
        (None, "postgres"),
    ],
)
def test_each_database_has_a_place_of_its_own_for_pictures(database_url: str | None, folder: str) -> None:
    url = Settings(database_url=database_url).pictures_url
    assert url.endswith(f"/generated_pictures/{folder}")


def test_pictures_go_where_they_are_told_to() -> None:
    settings = Settings(database_url="postgresql://db.example.com/shop", generated_images_url="s3://bucket/prefix")
    assert settings.pictures_url == "s3://bucket/prefix"


def test_make_demo_works_on_nothing_of_the_users(tmp_path: Path) -> None:
    """Runs the target with a command that prints what it would work on."""
    (tmp_path / ".env").write_text("DATABASE_URL=postgresql://db.example.com/shop")
    (tmp_path / "defs").mkdir()
    command = tmp_path / "matching-pipeline"
    command.write_text(
        f"#!{sys.executable}\nimport sys\nfrom matching_pipeline.settings import Settings\n"
        "from matching_pipeline.sources.documents import declarations_folder\nsettings = Settings()\n"
        "print(*sys.argv[1:], settings.database_url, settings.data_dir.resolve(), declarations_folder(settings))"
    )
    command.chmod(0o755)
    made = subprocess.run(
        ["make", "--silent", f"--file={ROOT / 'Makefile'}", "--old-file=.venv/installed", "BIN=.", "demo"],
        cwd=tmp_path,
        env={**os.environ, "DATABASE_URL": "postgresql://db.example.com/shop", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert made.stdout.split() == ["dev", "--sample-data", "None", str(tmp_path / ".data"), str(examples.FOLDER)]


def test_dev_refuses_a_setting_that_env_file_and_environment_give_differently(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATABASE_URL", "postgresql://db.example.com/shop")
    (tmp_path / ".env").write_text("DATABASE_URL=postgresql://db.example.com/shop\nDATA_DIR=elsewhere")
    require_one_value_each()
    (tmp_path / ".env").write_text("DATABASE_URL=postgresql://db.example.com/staging")
    with pytest.raises(ConfigurationError, match=r"DATABASE_URL: \.env and the environment"):
        require_one_value_each()
