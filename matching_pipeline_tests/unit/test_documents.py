"""What the documents name exists."""

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from matching_pipeline.cli.main import cli
from matching_pipeline.settings import Settings
from matching_pipeline.sources.declarations import (
    KINDS,
    Exceptions,
    Matcher,
    Matches,
    Parent,
    Pictures,
    Publish,
    PublishedColumns,
    Source,
    WriteBack,
)

CODE = re.compile(r"`[^`]+`")
ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]


def test_the_readme_lists_every_setting_with_its_default() -> None:
    rows = re.findall(r"^\| `([A-Z_]+)` \| ([^|]+?) \|", (ROOT / "README.md").read_text(), re.MULTILINE)
    documented = dict(rows)
    for name, field in Settings.model_fields.items():
        stated = documented.pop(name.upper())
        if field.default in (None, ()):
            no_value = not CODE.fullmatch(stated) or stated in str(field.description)
            assert no_value, f"{name} has no default value"
        else:
            default = str(field.default).lower() if isinstance(field.default, bool) else str(field.default)
            assert stated == f"`{default}`"
    assert not documented


def test_the_readme_lists_every_command() -> None:
    first_columns = re.findall(r"^\| (`[a-z][^|]*)\|", (ROOT / "README.md").read_text(), re.MULTILINE)
    listed = {command for column in first_columns for command in re.findall(r"`([a-z]+)", column)}
    assert set(cli.commands) <= listed


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_every_path_that_a_document_names_exists(document: Path) -> None:
    text = document.read_text()
    named = re.findall(r"`((?:sql|matching_pipeline|matching_pipeline_tests|benchmarks)/[\w./]*)`", text)
    named += re.findall(r"`([\w.]+\.(?:py|yaml|toml|txt|md))`", text)
    named += re.findall(r"\]\(([\w./]+)\)", text)
    missing = [
        name for name in named if not list(ROOT.glob(name)) and not list(ROOT.glob(f"matching_pipeline/{name}"))
    ]
    assert not missing


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_every_make_target_that_a_document_names_exists(document: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z]+)\b", document.read_text())) <= targets | {"dev"}


def test_the_document_of_declarations_lists_every_attribute() -> None:
    parts = re.split(r"^##+ ", (ROOT / "docs/declarations.md").read_text(), flags=re.MULTILINE)
    listed = {part.split("\n", 1)[0]: set(re.findall(r"`(\w+)`", "".join(_first_columns(part)))) for part in parts}
    sections = {
        "Source": Source,
        "parent": Parent,
        "pictures": Pictures,
        "write_back": WriteBack,
        "except": Exceptions,
        "publish": Publish,
        "columns of publish": PublishedColumns,
        **{name: kind for name, kind in KINDS.items() if kind is not Matches},
    }
    for section, kind in sections.items():
        assert listed[section] == attributes(kind), section
    assert listed["Matches"] == attributes(Matches) | attributes(Matcher)


def attributes(kind: type[BaseModel]) -> set[str]:
    return {field.alias or name for name, field in kind.model_fields.items()}


def _first_columns(text: str) -> list[str]:
    return re.findall(r"^\| (`[^|]*)\|", text, re.MULTILINE)
