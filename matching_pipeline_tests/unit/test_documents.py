"""What the documents name exists."""

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from matching_pipeline.sources.declarations import KINDS, Matches
from matching_pipeline.sources.matcher import Exceptions, Matcher, Publish, PublishedColumns
from matching_pipeline.sources.source import Parent, Pictures, Source, WriteBack
from tools.reference import with_reference

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_the_generated_parts_of_a_document_are_those_of_the_code(document: Path) -> None:
    text = document.read_text()
    assert with_reference(text) == text, "run `python -m tools.reference`"


def test_a_wrong_default_in_a_generated_part_is_found() -> None:
    text = (ROOT / "docs/settings.md").read_text()
    assert with_reference(text.replace("| `3600` |", "| `360` |")) == text


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_every_path_that_a_document_names_exists(document: Path) -> None:
    text = document.read_text()
    named = re.findall(r"`((?:sql|matching_pipeline|matching_pipeline_tests|benchmarks)/[\w./]*)`", text)
    named += re.findall(r"`([\w.]+\.(?:py|yaml|toml|txt|md))`", text)
    missing = [
        name for name in named if not list(ROOT.glob(name)) and not list(ROOT.glob(f"matching_pipeline/{name}"))
    ]
    missing += [link for link in re.findall(r"\]\(([\w./-]+)\)", text) if not (document.parent / link).exists()]
    assert not missing


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_every_make_target_that_a_document_names_exists(document: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:^|`)make ([a-z]+)\b", document.read_text(), re.MULTILINE)) <= targets | {"dev"}


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
