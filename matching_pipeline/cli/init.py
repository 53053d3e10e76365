"""`matching-pipeline init`: declarations to start from."""

import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

import click

from matching_pipeline.cli.console import say

TEMPLATES = Path(__file__).with_name("templates")
APPS = ("marketplace", "face_match", "job_board", "studio")
"""The kinds of apps for which there is a template."""

NEXT_STEPS = """
Put your tables and columns into these declarations. Set DATABASE_URL, in the environment or in a file `.env`.
Then `matching-pipeline migrate` makes the pipeline's own tables, in a schema of their own.
It also makes triggers on the tables that you declared.
After each change of the files, `matching-pipeline attach` brings the triggers up to date.
`matching-pipeline dev` starts the worker, the sensors and Dagster's UI.
If this is your own Dagster project, its folder of definitions must be this `defs`."""


@click.command("init")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), default=Path())
@click.option("--app", "apps", type=click.Choice(APPS), multiple=True, help="A template for such an app.")
def init_command(folder: Path, apps: tuple[str, ...]) -> None:
    """Write declarations to start from into FOLDER/defs, and overwrite nothing.

    With --app they are a template for that kind of app, without it a neutral one.
    """
    for path, is_new in write_declarations(folder, apps):
        say(f"{path} is written" if is_new else f"{path} was there before and is left as it is")
    say(NEXT_STEPS)


def write_declarations(folder: Path, apps: Iterable[str] = ()) -> Iterator[tuple[Path, bool]]:
    """Yields each file, and whether it is new."""
    files = {f"defs/{app}/defs.yaml": f"{app}.yaml" for app in (*apps,) or ("app",)}
    if not _is_in_a_project(folder):
        files["dg.toml"] = "dg.toml"
    for name, template in files.items():
        path = folder / name
        is_new = not path.exists()
        if is_new:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text((TEMPLATES / template).read_text())
        yield path, is_new


def _is_in_a_project(folder: Path) -> bool:
    """Whether this folder, or one above it, is a Dagster project."""
    for parent in (folder.absolute(), *folder.absolute().parents):
        pyproject = parent / "pyproject.toml"
        if (parent / "dg.toml").exists():
            return True
        if pyproject.exists() and "dg" in tomllib.loads(pyproject.read_text()).get("tool", {}):
            return True
    return False
