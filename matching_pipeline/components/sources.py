"""The app's own tables that the declarations name, for lineage."""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import dagster as dg

from matching_pipeline.sources.declarations import Declarations
from matching_pipeline.sources.source import Source

_IDENTIFIER = re.compile(r'"((?:[^"]|"")+)"|([^."]+)')


def table_key(table: str) -> dg.AssetKey:
    """Schema and table as Postgres reads them. A table without a schema is one of `public`."""
    parts = [quoted.replace('""', '"') or plain.strip().lower() for quoted, plain in _IDENTIFIER.findall(table)]
    return dg.AssetKey(parts if len(parts) > 1 else ["public", *parts])


def content_table(source: Source) -> dg.AssetKey:
    """The table whose rows hold the source's pictures, texts or vectors."""
    return table_key((source.pictures and source.pictures.table) or source.table)


def parent_tables(source: Source) -> Sequence[dg.AssetKey]:
    return [table_key(source.parent.table)] if source.parent else []


def app_tables(declarations: Declarations) -> Mapping[str, Sequence[dg.AssetSpec]]:
    """The app's tables as external assets, by the first source that names each: Dagster accepts one asset for a
    key."""
    roles: dict[dg.AssetKey, list[str]] = defaultdict(list)
    upstream: dict[dg.AssetKey, set[dg.AssetKey]] = defaultdict(set)
    first: dict[dg.AssetKey, str] = {}
    for source in declarations.sources:
        for table, role, above in _tables(source):
            first.setdefault(table, source.name)
            roles[table].append(f"{role} {source.name}")
            if above and not _is_below(above, table, upstream):
                upstream[table].add(above)
    specs: dict[str, list[dg.AssetSpec]] = defaultdict(list)
    for table, name in first.items():
        described = f"The app's table `{'.'.join(table.path)}`: {', '.join(roles[table])}."
        specs[name].append(
            dg.AssetSpec(
                table,
                deps=sorted(upstream[table]),
                group_name="app",
                kinds={"postgres"},
                description=described,
            )
        )
    return specs


def _tables(source: Source) -> Iterator[tuple[dg.AssetKey, str, dg.AssetKey | None]]:
    """Each table of the source, what its rows are, and the table that they point to."""
    entities = table_key(source.table)
    parent = next(iter(parent_tables(source)), None)
    if parent:
        yield parent, "parents of", None
    yield entities, "entities of", parent
    if source.pictures and source.pictures.table:
        yield content_table(source), "pictures of", entities


def _is_below(table: dg.AssetKey, other: dg.AssetKey, upstream: Mapping[dg.AssetKey, set[dg.AssetKey]]) -> bool:
    """Whether `table` is `other` or comes after it. Tables may point to each other, and assets must not."""
    return table == other or any(_is_below(each, other, upstream) for each in upstream.get(table, ()))
