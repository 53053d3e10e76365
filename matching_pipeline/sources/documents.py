"""Reads declarations from the YAML files of a folder, and names all that is wrong in them at once."""

import difflib
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from matching_pipeline import examples
from matching_pipeline.errors import ConfigurationError
from matching_pipeline.settings import Settings
from matching_pipeline.sources.declarations import KINDS, TYPE_PREFIX, WORKER, Declaration, Declarations, Matches
from matching_pipeline.sources.named_class import as_package
from matching_pipeline.sources.source import Source

# in C, where PyYAML was built with it: a tenth of the time
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NO_DECLARATION = "a declaration has the fields type and attributes"
_SAID = {
    "missing": "it must be given",
    "too_short": "it is an empty list: give at least one",
    "string_type": "it must be a text",
    "tuple_type": "it must be a list",
    "dict_type": "it must have names and values",
    "model_type": "it must have attributes",
    "string_pattern_mismatch": "a name begins with a letter and has up to 28 lower-case letters, digits and _",
    "columns": "it must be the name of a column, or a list of at least two",
}
"""What is said of an error, by pydantic's word for it."""


class FaultyDeclarations(ConfigurationError):
    """Names all that is wrong in the documents; `sound` are the sources and matchers in which nothing is wrong."""

    def __init__(self, problems: Iterable[str], sound: Declarations) -> None:
        super().__init__("\n".join(problems))
        self.sound = sound


def declarations_folder(settings: Settings) -> Path:
    """DEFINITIONS_DIR, or `defs` in the working directory.

    Without either, the examples, if the embedded Postgres or the sample data is used.

    Raises ConfigurationError if there is no such folder.
    """
    folder = settings.definitions_dir or Path("defs")
    if folder.is_dir():
        return folder
    if settings.definitions_dir is None and (settings.sample_data or not settings.database_url):
        return examples.FOLDER
    raise ConfigurationError(
        f"DEFINITIONS_DIR: there is no folder {folder} with declarations: `matching-pipeline init` makes one"
    )


def declared(settings: Settings) -> Declarations:
    """What the folder of declarations declares."""
    return load(declarations_folder(settings))


def load(folder: Path) -> Declarations:
    """The declarations of all YAML files below the folder. It ignores components of other packages.

    Raises FaultyDeclarations, which names all that is wrong, with the file and the attribute.
    """
    as_package(folder)
    found: list[Declaration] = []
    unread: set[str] = set()
    problems: list[str] = []
    for file in sorted(folder.rglob("defs.yaml")):
        for kind, attributes, problem in _documents(file):
            if kind is None:
                problems.append(f"{file}: {problem}")
                continue
            try:
                found.append(kind.model_validate(attributes))
            except ValidationError as error:
                unread.add(_name(attributes))
                where = f"{file}: {kind.__name__} {_name(attributes)}".rstrip()
                problems += [f"{where}: {problem}" for problem in dict.fromkeys(_problems_of(kind, error))]
    try:
        declarations = Declarations.of(found)
    except ConfigurationError as error:
        # a source that could not be read has been named
        lines = str(error).splitlines()
        problems += [line for line in lines if line.rpartition("there is no source ")[2] not in unread]
    if problems:
        raise FaultyDeclarations(problems, _sound(found))
    return declarations


def _sound(found: Iterable[Declaration]) -> Declarations:
    """The sources among these, each name once, and the matchers that fit to them."""
    sources = {each.name: each for each in found if isinstance(each, Source)}
    sound = Declarations(sources=tuple(sources.values()))
    for matcher in (matcher for each in found if isinstance(each, Matches) for matcher in each.matchers):
        with suppress(ValidationError):
            sound = Declarations(sources=sound.sources, matches=(*sound.matches, Matches(matchers=(matcher,))))
    return sound


def _documents(file: Path) -> Iterator[tuple[type[Declaration] | None, Any, str]]:
    """Each document of the file: what it declares, and its attributes; or what is wrong with it."""
    try:
        documents = [each for each in yaml.load_all(file.read_text(), _LOADER) if each]
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        yield None, None, str(error)
        return
    for document in documents:
        name = str(document.get("type", "")) if isinstance(document, dict) else None
        if name is None:
            yield None, None, _NO_DECLARATION
        elif name in KINDS:
            yield None, None, f"type: write {TYPE_PREFIX}{name} in place of {name}"
        elif name.startswith(TYPE_PREFIX) and name != WORKER:
            kind = KINDS.get(name.removeprefix(TYPE_PREFIX))
            known = ", ".join([*(f"{TYPE_PREFIX}{kind}" for kind in KINDS), WORKER])
            yield kind, document.get("attributes") or {}, f"type: there is no {name}, only {known}"


def _name(attributes: Any) -> str:
    return str(attributes.get("name", "")) if isinstance(attributes, dict) else ""


def _problems_of(kind: type[BaseModel], error: ValidationError) -> Iterator[str]:
    errors = error.errors()
    for each in errors:
        place = each["loc"]
        if each["type"] == "too_short" and any(
            other["loc"][: len(place)] == place for other in errors if other is not each
        ):
            # pydantic counts only the elements that are right
            continue
        fields, model = _fields(kind, place)
        where = ".".join(fields) or "attributes"
        message = each["msg"].removeprefix("Value error, ")
        if each["type"] == "extra_forbidden":
            *fields, unknown = fields
            where = ".".join(fields)
            known = [field.alias or name for name, field in model.model_fields.items()]
            message = f"there is no attribute {unknown}, only {', '.join(known)}"
            if alike := difflib.get_close_matches(unknown, known, 1):
                message = f"there is no attribute {unknown}: is it {alike[0]}?"
        elif len(fields) < len(place):
            message = _SAID["columns"]
        elif each["type"] != "string_pattern_mismatch" or each["ctx"]["pattern"].startswith("^[a-z][a-z0-9_]"):
            message = _SAID.get(each["type"], message)
        else:
            message = f"it must have the form {each['ctx']['pattern']}"
        yield f"{where}: {message}".removeprefix(": ")


def _fields(kind: type[BaseModel], location: tuple[int | str, ...]) -> tuple[list[str], type[BaseModel]]:
    """The attributes on the way to an error, without the names that pydantic gives to choices; and the last model."""
    fields: list[str] = []
    model = kind
    for part in location:
        if isinstance(part, str) and re.search(r"[\[\]-]", part):
            break
        fields.append(str(part))
        field = next((field for name, field in model.model_fields.items() if part in (name, field.alias)), None)
        if field is not None:
            model = _model_in(field.annotation) or model
    return fields, model


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model of declarations that a field holds, alone or in a list."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((model for each in get_args(annotation) if (model := _model_in(each))), None)
