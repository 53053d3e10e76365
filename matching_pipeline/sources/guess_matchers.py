"""Proposes matchers from what the catalog shows: users, blocked pairs, and a table for the results."""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

from matching_pipeline.sources.guess_catalog import OPPOSED, Guess, Line, Table

PERSON = re.compile(r"user|profile|member|account|avatar", re.IGNORECASE)
OWNER = re.compile(r"^(user|owner|seller|author|creator|profile|account|member)_?id$", re.IGNORECASE)
BLOCKS = re.compile(r"block|banned|ignore|mute|hidden|hide|dislike|exclu|reject", re.IGNORECASE)
RESULTS = re.compile(r"match|pair|recommend|similar|suggest", re.IGNORECASE)
SCORE = re.compile(r"similarity|score", re.IGNORECASE)
RANK = re.compile(r"^rank$", re.IGNORECASE)
NUMBERS = {"real", "double precision", "numeric"}
COUNTS = {"smallint", "integer", "bigint"}


def user(table: Table) -> Iterator[Line]:
    """The column with the user whose row it is."""
    for reference in _of_persons(table):
        yield Line(
            "user", reference["columns"][0], f"a foreign key to {reference['table']}: they may see the row's matches"
        )
        return
    for column in table.columns:
        if OWNER.search(column):
            yield Line("user", column, "its name says who may see the row's jobs and matches")
            return


def matchers(sources: Mapping[str, Guess], left: str, right: str, tables: Sequence[Table]) -> Iterator[Line]:
    """The lines of a matcher of these two sources, or of one with itself."""
    is_within = left == right
    yield Line("name", left[:20], "the matcher's name")
    yield Line("left", left, "its rows have lists")
    yield Line("right", right, "its rows are listed: the same source" if is_within else "its rows are listed")
    names = (f"{left[:20]}_a_id", f"{left[:20]}_b_id") if is_within else (f"{left[:20]}_id", f"{right[:20]}_id")
    yield Line("columns", list(names), "the columns of the view that hold the two keys")
    if not is_within and sources[left].content == "text":
        yield Line("lists", "both", "the rows on the right have lists too")
    if is_within:
        yield from _comparisons(sources[left])
    taken: set[str] = set()
    for table in tables:
        for name, proposal in (("except", _exceptions), ("publish", _publication)):
            found = proposal(table, sources[left], sources[right]) if name not in taken else None
            if found is not None:
                taken.add(name)
                yield found


def _comparisons(source: Guess) -> Iterator[Line]:
    opposed = next(filter(OPPOSED.search, source.properties), None)
    same = [name for name in source.properties if name != opposed]
    if same:
        yield Line("same", same, "only rows that have the same match")
    if opposed:
        yield Line(
            "opposite", {opposed: source.opposite}, f"two words of {opposed}: one row has this, the other that"
        )
    elif column := source.value("user"):
        yield Line("never_same", column, "the rows of one user do not match each other")


def _exceptions(table: Table, left: Guess, right: Guess) -> Line | None:
    """A table of two foreign keys to the rows, or to their users."""
    if not BLOCKS.search(table.name):
        return None
    for one, other in _pairs(table):
        if _target(one) != _target(other):
            continue
        on = _column_of(left, one)
        if on is None or on != _column_of(right, one):
            continue
        rule = {"table": table.full_name, "left": one["columns"][0], "right": other["columns"][0], "on": on}
        what = "rows" if on in left.table.key else "users"
        return Line(
            "except", {**rule, "both_ways": True}, f"it names two {what}, and its name says that they stay apart"
        )
    return None


def _column_of(source: Guess, reference: Mapping[str, Any]) -> str | None:
    """The column of the source that holds what the foreign key names: its key, or its user's."""
    if _target(reference) == (source.table.schema, source.table.name, list(source.table.key)):
        return source.table.key[0]
    for own in _of_persons(source.table):
        if _target(own) == _target(reference) and own["columns"][0] == source.value("user"):
            return str(own["columns"][0])
    return None


def _publication(table: Table, left: Guess, right: Guess) -> Line | None:
    """A table of two foreign keys to the rows, if the pipeline can fill all that must be given."""
    if not RESULTS.search(table.name):
        return None
    keys = [(side.table.schema, side.table.name, list(side.table.key)) for side in (left, right)]
    for pair in _pairs(table):
        for one, other in (pair, pair[::-1]):
            columns = {"left": one["columns"][0], "right": other["columns"][0]}
            for field, pattern, types in (("similarity", SCORE, NUMBERS), ("rank", RANK, COUNTS)):
                if column := next(table.find(pattern, types), None):
                    columns[field] = column
            given = {*columns.values()}
            if [_target(one), _target(other)] == keys and all(
                name in given for name, facts in table.columns.items() if facts["is_required"]
            ):
                declared = {"table": table.full_name, "columns": columns}
                return Line("publish", declared, "it names two rows, and its name says that they match")
    return None


def _pairs(table: Table) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """The pairs of foreign keys of one column, in the order of the columns."""
    of_one_column = [each for each in table.references if len(each["columns"]) == 1]
    order = list(table.columns)
    yield from combinations(sorted(of_one_column, key=lambda each: order.index(each["columns"][0])), 2)


def _of_persons(table: Table) -> Iterator[dict[str, Any]]:
    return (each for each in table.references if len(each["columns"]) == 1 and PERSON.search(each["table"]))


def _target(reference: Mapping[str, Any]) -> tuple[str, str, list[str]]:
    return reference["schema"], reference["table"], list(reference["key"])
