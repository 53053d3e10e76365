"""What the documents name exists."""

import re
import shlex
from contextlib import suppress
from pathlib import Path

import click
import pytest
import yaml

from matching_pipeline.cli.main import cli
from matching_pipeline.sources.declarations import KINDS, TYPE_PREFIX
from tools.reference import DECLARED, with_reference

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


def test_every_kind_of_declaration_has_its_attributes_in_a_document() -> None:
    text = (ROOT / "docs/declarations.md").read_text()
    assert [kind.__name__ for kind in DECLARED if f"<!-- generated: {kind.__name__} -->" not in text] == []
    assert set(KINDS.values()) <= set(DECLARED)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_every_command_that_a_document_shows_is_understood(document: Path) -> None:
    text = re.sub(r"<!-- generated.*?<!-- end -->", "", document.read_text(), flags=re.DOTALL)
    for shown in re.findall(r"(?:^|`)(?:\.venv/bin/)?matching-pipeline ([^`\n#…]+)", text, re.MULTILINE):
        arguments = shlex.split(shown)
        command: click.Command = cli
        while isinstance(command, click.Group) and arguments:
            command = command.commands[arguments.pop(0)]
        # a document may name an argument without its value
        with suppress(click.BadParameter):
            command.make_context("matching-pipeline", arguments)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_every_declaration_that_a_document_shows_is_valid(document: Path) -> None:
    for block in re.findall(r"```yaml\n(.*?)```", document.read_text(), re.DOTALL):
        for shown in yaml.safe_load_all(block):
            if str(shown.get("type", "")).startswith(TYPE_PREFIX):
                KINDS[shown["type"].removeprefix(TYPE_PREFIX)].model_validate(shown["attributes"])
