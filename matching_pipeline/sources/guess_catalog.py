"""The tables of an app as the catalog has them, and a proposal of a source."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

KEYS = {"uuid", "smallint", "integer", "bigint", "text", "character varying"}
OPPOSED = re.compile(r"^(gender|sex)$", re.IGNORECASE)


class Line(NamedTuple):
    name: str
    value: Any
    reason: str


@dataclass(frozen=True)
class Guess:
    """A source: the attributes of its declaration, and the two words that its property of OPPOSED may have."""

    lines: list[Line]
    opposite: list[str]
    table: "Table"

    def value(self, name: str) -> Any:
        return next((line.value for line in self.lines if line.name == name), None)

    @property
    def content(self) -> str:
        return self.lines[-1].name

    @property
    def properties(self) -> dict[str, str]:
        return self.value("properties") or {}


@dataclass(frozen=True)
class Table:
    """A table of the app, as the catalog has it."""

    schema: str
    name: str
    key: Sequence[str]
    columns: dict[str, dict[str, Any]]
    """by name: the type, the words of an enum, and whether an insert must give a value"""
    references: Sequence[dict[str, Any]]

    @property
    def full_name(self) -> str:
        return f"{quoted(self.schema)}.{quoted(self.name)}"

    @property
    def has_key(self) -> bool:
        return bool(self.key) and all(self.type(column) in KEYS for column in self.key)

    def type(self, column: str) -> str:
        return str(self.columns[column]["type"])

    def find(self, pattern: re.Pattern[str], types: set[str]) -> Iterator[str]:
        return (name for name in self.columns if self.type(name) in types and pattern.search(name))


def one_or_list(columns: Sequence[str]) -> str | list[str]:
    return columns[0] if len(columns) == 1 else list(columns)


def quoted(name: str) -> str:
    return name if re.fullmatch(r"[a-z_][a-z0-9_$]*", name) else '"' + name.replace('"', '""') + '"'
