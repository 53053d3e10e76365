"""Proposes declarations for a database, from its catalog alone, with a reason for each line."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import yaml

from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import named_rows
from matching_pipeline.sources.declarations import TYPE_PREFIX
from matching_pipeline.sources.guess_catalog import OPPOSED, Guess, Line, Table, one_or_list, quoted
from matching_pipeline.sources.guess_matchers import PERSON, matchers, user

OTHER_SCHEMAS = ["information_schema", "matching_pipeline", "dagster", "auth", "storage", "extensions", "realtime"]
"""Schemas of Postgres, of ours, of Dagster and of Supabase."""
TEXTS = {"text", "character varying"}
LISTS = {"text[]", "character varying[]", "jsonb", "json"}
VECTORS = re.compile(r"(\w+\.)?(vector|halfvec)|(real|double precision)\[\]")

WIDTH = 60
"""A longer line has its reason above it."""

PICTURE = re.compile(r"image|photo|picture|img|thumbnail", re.IGNORECASE)
ADDRESS = re.compile(r"url|src|uri|path|^image$|^photo$|^picture$|image$", re.IGNORECASE)
EMBEDDING = re.compile(r"embedding|vector|descriptor", re.IGNORECASE)
TITLE = re.compile(r"^(title|headline|name|position)$", re.IGNORECASE)
BODY = re.compile(r"description|body|content|summary|details", re.IGNORECASE)
SHOWN = re.compile(r"^(is_?)?(active|published|public|visible|open|listed|available)$", re.IGNORECASE)
WITHDRAWN = re.compile(r"^(deleted|withdrawn|archived|sold|closed)_?at$", re.IGNORECASE)
PUBLISHED = re.compile(r"^(published|active|open|live|listed)$", re.IGNORECASE)
SHARED = re.compile(r"^(school|campus|city|country)(_?id)?$", re.IGNORECASE)


def guess(connection: Connection) -> str:
    """YAML with a reason behind each line. It reads the catalog only, and writes nothing."""
    rows = named_rows(connection, "tables_of_the_app", other_schemas=OTHER_SCHEMAS)
    tables = [Table(row["schema"], row["table"], row["key"] or (), row["columns"], row["references"]) for row in rows]
    sources = dict(_named(_sources(tables)))
    if not sources:
        return "# No table seems to keep pictures, texts or vectors: `matching-pipeline init` writes an example.\n"
    documents = [_document("Source", source.lines) for source in sources.values()]
    documents += [_document(kind, lines) for kind, lines in _assets(sources, tables)]
    return "# A guess from names and types in the catalog: read each line before you attach it.\n" + "---\n".join(
        documents
    )


def _sources(tables: Sequence[Table]) -> Iterator[Guess]:
    galleries = {table.full_name: gallery for table in tables if (gallery := _gallery(table))}
    shown = {gallery["entity_table"] for gallery in galleries.values()}
    for table in tables:
        if not table.has_key or table.full_name in galleries:
            continue
        content = list(
            _content(table, [each for each in galleries.values() if each["entity_table"] == table.full_name])
        )
        if content and not (
            PERSON.search(table.name) and table.full_name not in shown and content[0].name == "photo"
        ):
            parent = list(_parent(table, tables)) if content[0].name == "vector" else []
            lines = [*_row(table), *_condition(table), *parent, *user(table), content[0]]
            yield Guess(lines, _opposed_words(table, tables), table)


def _gallery(table: Table) -> dict[str, Any] | None:
    """The rows of a table that are pictures of the rows of another."""
    urls = list(table.find(ADDRESS, TEXTS))
    if not table.has_key or not urls or not PICTURE.search(table.name) or any(map(_is_vector(table), table.columns)):
        return None
    for reference in table.references:
        if not PERSON.search(reference["table"]):
            return {
                "entity_table": f"{quoted(reference['schema'])}.{quoted(reference['table'])}",
                "entity_key": reference["key"],
                "table": table.full_name,
                "key": one_or_list(table.key),
                "entity": one_or_list(reference["columns"]),
                "url": urls[0],
            }
    return None


def _content(table: Table, galleries: Sequence[dict[str, Any]]) -> Iterator[Line]:
    """What the rows have to embed, the likeliest first."""
    for gallery in galleries:
        if list(gallery["entity_key"]) == list(table.key):
            pictures = {name: gallery[name] for name in ("table", "key", "entity", "url")}
            yield Line(
                "pictures",
                pictures,
                f"a foreign key of {gallery['table']} points here, and {gallery['url']} looks like an address",
            )
    for column in table.find(PICTURE, LISTS):
        yield Line(
            "pictures",
            {"each": f"t.{quoted(column)}"},
            f"{column} is a list; if it has JSON objects, add `url`, the field with the address",
        )
    titles, bodies = list(table.find(TITLE, TEXTS)), list(table.find(BODY, TEXTS))
    if titles and bodies:
        yield Line("text", [f"t.{quoted(column)}" for column in (titles[0], bodies[0])], "a title and a longer text")
    for column in filter(_is_vector(table), table.columns):
        yield Line("vector", column, f"a {table.type(column)}, which the app seems to fill")
    for column in table.find(PICTURE, TEXTS):
        yield Line(
            "photo", f"t.{quoted(column)}", f"{column} looks like the address of a picture; for paths add `base_url`"
        )


def _row(table: Table) -> Iterator[Line]:
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", table.name).lower()
    for plural, singular in ((r"ies$", "y"), (r"(ch|sh|ss|x)es$", r"\1"), (r"(?<!s)s$", "")):
        name, found = re.subn(plural, singular, name)
        if found:
            break
    yield Line("name", re.sub(r"\W|^(?=\d|_)", "_", name)[:26], "the table's name, in the singular")
    yield Line("table", table.full_name, "it has what a source needs")
    yield Line("key", one_or_list(table.key), "the primary key")


def _condition(table: Table) -> Iterator[Line]:
    for column in table.find(SHOWN, {"boolean"}):
        yield Line("when", f"t.{quoted(column)}", f"{column} is a boolean: only rows of which it is true count")
        return
    for column in table.columns:
        for word in filter(PUBLISHED.search, table.columns[column]["words"] or ()):
            yield Line(
                "when",
                f"t.{quoted(column)} = '{word}'",
                f"{column} is an enum with the word {word}",
            )
            return
        if WITHDRAWN.search(column):
            yield Line("when", f"t.{quoted(column)} is null", f"a row with {column} seems to be gone")
            return


def _parent(table: Table, tables: Sequence[Table]) -> Iterator[Line]:
    """The gender and the school of a row, and the parent that has them."""
    row = _person(table, tables)
    if row is table:
        yield _properties(table, "t")
    elif row is not None:
        reference = next(
            each for each in table.references if (each["schema"], each["table"]) == (row.schema, row.name)
        )
        named = {name: one_or_list(reference[columns]) for name, columns in (("key", "key"), ("on", "columns"))}
        yield Line("parent", {"table": row.full_name, **named}, "a foreign key points there, and it says who it is")
        yield _properties(row, "p")


def _person(table: Table, tables: Sequence[Table]) -> Table | None:
    """The table itself or one that it points to, which has a column of OPPOSED."""
    pointed = {(each["schema"], each["table"]) for each in table.references}
    near = [table, *(each for each in tables if (each.schema, each.name) in pointed and each.has_key)]
    return next((each for each in near if any(map(OPPOSED.search, each.columns))), None)


def _opposed_words(table: Table, tables: Sequence[Table]) -> list[str]:
    row = _person(table, tables)
    columns = [column for name, column in row.columns.items() if OPPOSED.search(name)] if row else []
    return next((column["words"][:2] for column in columns if column["words"]), ["female", "male"])


def _properties(table: Table, row: str) -> Line:
    names = [name for name in table.columns if OPPOSED.search(name) or SHARED.search(name)]
    values = {re.sub(r"\W|_?id$", "", name.lower()): f"{row}.{quoted(name)}" for name in names}
    return Line("properties", values, "what a matcher can compare")


def _assets(sources: dict[str, Guess], tables: Sequence[Table]) -> Iterator[tuple[str, list[Line]]]:
    with_pictures, with_text, with_vector = (
        [name for name, source in sources.items() if source.content in kinds]
        for kinds in (("pictures", "photo"), ("text",), ("vector",))
    )
    if with_pictures:
        yield (
            "ImageEmbeddings",
            [Line("name", "image_embeddings", "the asset"), Line("sources", with_pictures, "all with pictures")],
        )
    if with_text:
        yield (
            "TextEmbeddings",
            [Line("name", "text_embeddings", "the asset"), Line("sources", with_text, "all with texts")],
        )
    sides = [each[:2] for each in (with_pictures, with_text) if len(each) > 1] + [
        [name, name] for name in with_vector
    ]
    proposed = [list(matchers({side: sources[side] for side in each}, each[0], each[1], tables)) for each in sides]
    if proposed:
        yield (
            "Matches",
            [
                Line("name", "matches", "the asset"),
                Line("matchers", proposed, "say which source is matched with which"),
            ],
        )


def _named(sources: Iterator[Guess]) -> Iterator[tuple[str, Guess]]:
    """Gives each source a name of its own."""
    taken: set[str] = set()
    for source in sources:
        first, *others = source.lines
        names = (f"{first.value[:26]}{number or ''}" for number in range(100))
        name = next(name for name in names if name not in taken)
        taken.add(name)
        yield name, replace(source, lines=[first._replace(value=name), *others])


def _document(kind: str, lines: Sequence[Line]) -> str:
    return f"type: {TYPE_PREFIX}{kind}\nattributes:\n{_block(lines, '  ')}"


def _block(lines: Sequence[Line], indent: str) -> str:
    """A line an attribute, with its reason. Matchers are a list of such blocks."""
    told = [(f"{indent}{line.name}: {_flow(line.value)}", line) for line in lines if line.name != "matchers"]
    width = max((len(text) for text, _ in told if len(text) <= WIDTH), default=0)
    body = "".join(
        f"{text:<{width}}  # {line.reason}\n" if len(text) <= WIDTH else f"{indent}# {line.reason}:\n{text}\n"
        for text, line in told
    )
    for line in (line for line in lines if line.name == "matchers"):
        body += f"{indent}matchers:  # {line.reason}\n"
        inner = indent + "    "
        body += "".join(f"{indent}  - {_block(each, inner).removeprefix(inner)}" for each in line.value)
    return body


def _flow(value: Any) -> str:
    """The value as YAML in one line."""
    return yaml.safe_dump(value, default_flow_style=True, width=10_000, sort_keys=False).removesuffix("...\n").strip()


def _is_vector(table: Table) -> Any:
    def is_vector(column: str) -> bool:
        type = table.type(column)
        return bool(VECTORS.fullmatch(type)) and (not type.endswith("[]") or bool(EMBEDDING.search(column)))

    return is_vector
