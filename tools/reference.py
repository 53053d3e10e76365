"""Writes the generated parts of the documents: `python -m tools.reference`.

A part stands between `<!-- generated: NAME -->` and `<!-- end -->` in a document. Its text comes from the code.
"""

import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final

import click
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from matching_pipeline.cli.main import cli
from matching_pipeline.settings import Settings
from matching_pipeline.sources.declarations import Derived, GeneratedImages, ImageEmbeddings, Matches, TextEmbeddings
from matching_pipeline.sources.matcher import Exceptions, Matcher, Publish, PublishedColumns
from matching_pipeline.sources.source import Parent, Pictures, Source, WriteBack

ROOT: Final = Path(__file__).resolve().parents[1]
DOCUMENTS: Final = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
PART: Final = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
DECLARED: Final[tuple[type[BaseModel], ...]] = (
    *(Source, Parent, Pictures, WriteBack, ImageEmbeddings, TextEmbeddings, Derived),
    *(Matches, Matcher, Exceptions, Publish, PublishedColumns, GeneratedImages),
)


def settings() -> Iterator[str]:
    return _fields(Settings, "setting", str.upper)


def _fields(kind: type[BaseModel], heading: str, written: Callable[[str], str] = str) -> Iterator[str]:
    yield from (f"| {heading} | default | meaning |", "| --- | --- | --- |")
    for name, field in kind.model_fields.items():
        meaning = " ".join((field.description or "").split()).replace("||", "\\|\\|")
        yield f"| `{written(field.alias or name)}` | {_default(field)} | {meaning} |"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return ""
    if field.default in (None, (), {}):
        return "none"
    return f"`{str(field.default).lower() if isinstance(field.default, bool) else field.default}`"


def commands() -> Iterator[str]:
    yield from _commands(cli, "matching-pipeline")


def _commands(group: click.Group, path: str) -> Iterator[str]:
    for name, command in sorted(group.commands.items()):
        if isinstance(command, click.Group):
            yield from (f"### `{path} {name}`", "", _help(command), "")
            yield from _commands(command, f"{path} {name}")
            continue
        context = click.Context(command, info_name=f"{path} {name}")
        yield from (f"### `{' '.join(context.command.get_usage(context).split()[1:])}`", "", _help(command), "")
        options = [option for option in command.params if isinstance(option, click.Option) and not option.hidden]
        yield from (f"- `{_flag(option)}`: {option.help}" for option in options)
        if options:
            yield ""


def _help(command: click.Command) -> str:
    return "\n".join(line.strip() for line in (command.help or "").splitlines()).strip()


def _flag(option: click.Option) -> str:
    flag = "/".join(option.opts)
    if option.is_flag:
        return flag
    metavar = option.metavar or (option.name or "").upper()
    return f"{flag} {'|'.join(option.type.choices) if isinstance(option.type, click.Choice) else metavar}"


FUNCTIONS: Final = (
    *("pause_queue", "resume_queue", "queue_status", "find_similar", "find_similar_images"),
    *("enqueue_entity", "request_pictures"),
    *("get_next_job", "mark_job_processing", "mark_job_completed", "mark_job_failed"),
    *("save_generated_image", "picture_lock"),
)
"""The functions of our schema that an app, or a worker of its own, may call."""


def functions() -> Iterator[str]:
    """Each with the comment above its definition."""
    text = "\n".join(file.read_text() for file in sorted((ROOT / "sql/repeatable").glob("*.sql")))
    for name in FUNCTIONS:
        pattern = rf"((?:^--[^\n]*\n)*)^create or replace function ({name}\(.*?)\nlanguage"
        for comment, written in re.findall(pattern, text, re.M | re.S):
            signature = " ".join(written.split()).replace("( ", "(").replace(" )", ")")
            yield from (f"**`{signature}`**", "", " ".join(comment.replace("--", "").split()), "")


def tables() -> Iterator[str]:
    """Each with its comments, and the type of each column."""
    text = "\n".join(file.read_text() for file in sorted((ROOT / "sql/migrations").glob("*.sql")))
    comments = dict(re.findall(r"^comment on (?:table|column) ([\w.]+) is '((?:[^']|'')+)'", text, re.M))
    for name, body in re.findall(r"^create (?:unlogged )?table (\w+) \((.*?)^\)", text, re.M | re.S):
        yield from (f"### {name}", "", _sentence(comments.get(name, "")), "")
        yield from ("| column | type | meaning |", "| --- | --- | --- |")
        for column, kind in re.findall(r"^    (?!constraint\b)(\w+) (\w+(?:\[\])?)", body, re.M):
            yield f"| `{column}` | {kind} | {_sentence(comments.get(f'{name}.{column}', ''))} |"
        yield ""


def _sentence(comment: str) -> str:
    text = comment.replace("''", "'")
    # the name of a function keeps its small letter
    return text and (text[0] if re.match(r"\w+\(", text) else text[0].upper()) + text[1:] + "."


PARTS: Final[dict[str, Callable[[], Iterator[str]]]] = {
    "settings": settings,
    "commands": commands,
    "functions": functions,
    "tables": tables,
    **{kind.__name__: partial(_fields, kind, "attribute") for kind in DECLARED},
}


def with_reference(text: str) -> str:
    """The document with its generated parts as the code has them now."""
    return PART.sub(lambda part: part[1] + "\n".join((*PARTS[part[2]](), part[3])), text)


def main() -> None:
    for document in DOCUMENTS:
        document.write_text(with_reference(document.read_text()))


if __name__ == "__main__":
    main()
