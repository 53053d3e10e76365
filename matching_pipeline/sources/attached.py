"""What is attached: how it differs from the declarations, and what is wrong with it."""

from dataclasses import dataclass, field, replace
from typing import Any

from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import query
from matching_pipeline.errors import PermanentFailure, SourceUnreadable
from matching_pipeline.sources.declarations import Declarations
from matching_pipeline.sources.reading import read_all

REPAIRED = "`matching-pipeline attach` repairs it"


def misfits(connection: Connection, declarations: Declarations) -> list[str]:
    """What is declared and not attached as it is declared."""
    sources, matchers = (
        stored_declarations(connection, "attached_sources"),
        stored_declarations(connection, "attached_matchers"),
    )
    declared = [
        *(("source", each.name, as_json(each).obj, sources) for each in declarations.sources),
        *(("matcher", each.name, as_json(each).obj, matchers) for each in declarations.matchers),
    ]
    return [
        f"the {what} {name} is declared and not attached"
        if name not in attached
        else f"the {what} {name} is declared otherwise than it is attached"
        for what, name, declaration, attached in declared
        if attached.get(name) != declaration
    ]


def undeclared(connection: Connection, declarations: Declarations) -> list[str]:
    """What is attached and not declared here. Another code location may have declared it."""
    told = []
    for what, attached, declared in (
        ("source", "attached_sources", {source.name for source in declarations.sources}),
        ("matcher", "attached_matchers", {matcher.name for matcher in declarations.matchers}),
    ):
        names = sorted(stored_declarations(connection, attached).keys() - declared)
        told += [f"the {what} {name} is attached and not declared" for name in names]
    of_matchers = {queue for _, _, queue in connection.execute(query("attached_matchers")).fetchall()}
    for name in sorted(
        stored_declarations(connection, "attached_queues").keys() - declarations.queues.keys() - of_matchers
    ):
        told.append(f"the queue {name} is of no declared asset: `matching-pipeline detach {name}` deletes it")
    for name, _, queues in connection.execute(query("attached_sources")).fetchall():
        others = ", ".join(sorted(set(queues) - declarations.queues.keys()))
        if others and name in {source.name for source in declarations.sources}:
            told.append(f"the source {name} fills queues that are not declared: {others}")
    return told


def overruled(connection: Connection, declarations: Declarations) -> list[str]:
    """What a row of `match_settings` says otherwise than the declaration, which gives only its first values."""
    told = []
    for matcher in declarations.matchers:
        declared = (matcher.threshold, matcher.top, matcher.attribute_weight)
        row = connection.execute(query("matcher_state"), {"matcher": matcher.name, "model": None}).fetchone()
        for name, value, stored in zip(("threshold", "top", "attribute_weight"), declared, row or (), strict=False):
            if value != stored:
                told.append(f"the matcher {matcher.name} has {name} {stored} in match_settings, declared is {value}")
    return told


def differences(connection: Connection, declarations: Declarations) -> list[str]:
    """What differs between the database and the declarations."""
    return [*misfits(connection, declarations), *undeclared(connection, declarations)]


@dataclass(frozen=True)
class SourceState:
    """The state of one attached source."""

    name: str
    table: str
    is_attached: bool
    """False once it is detached and not forgotten."""
    has_table: bool
    rows: int
    """of the table, as Postgres' statistics have it"""
    mirrored: int
    unfinished: int
    failed: int
    trigger_problems: list[str]
    read_problems: list[str] = field(default_factory=list)

    @property
    def problems(self) -> list[str]:
        if self.is_attached and not self.has_table:
            return [
                f"there is no table {self.table}: declare its new name and run `matching-pipeline attach`, or run "
                f"`matching-pipeline detach {self.name} --forget` where it is gone"
            ]
        remedy = REPAIRED
        if not self.is_attached:
            remedy = f"`matching-pipeline detach {self.name}` drops it"
        return [f"the trigger {problem}: {remedy}" for problem in self.trigger_problems] + self.read_problems

    @property
    def needs_attaching(self) -> bool:
        """Whether `attach` repairs a problem: triggers that are missing, keys that have another type now."""
        return self.is_attached and self.has_table and any(REPAIRED in problem for problem in self.problems)

    def __str__(self) -> str:
        attached = f"attached to {self.table}" if self.is_attached else f"detached from {self.table}"
        return (
            f"{attached}, which has about {self.rows} rows; {self.mirrored} entities mirrored, "
            f"{self.unfinished} jobs unfinished, {self.failed} failed"
        )


def source_states(connection: Connection) -> list[SourceState]:
    """Every source that is attached, or detached and not forgotten."""
    with connection.cursor(row_factory=class_row(SourceState)) as cursor:
        states = cursor.execute(query("source_states")).fetchall()
    return [replace(state, read_problems=_read_problems(connection, state)) for state in states]


def stored_declarations(connection: Connection, name: str) -> dict[str, Any]:
    """The attached declarations that the query `name` finds, by their names."""
    return {name: declaration for name, declaration, *_ in connection.execute(query(name)).fetchall()}


def _read_problems(connection: Connection, state: SourceState) -> list[str]:
    """Whether a worker can read the rows: the rights for it, and columns that the expressions name."""
    if not (state.is_attached and state.has_table):
        return []
    try:
        read_all(connection, state.name, "entity", [])
    except (SourceUnreadable, PermanentFailure) as error:
        return [str(error)]
    problems = ("types_problem", "write_back_problem")
    found = (connection.execute(query(name), {"name": state.name}).fetchone() for name in problems)
    return [row[0] for row in found if row]


def as_json(declaration: Any) -> Jsonb:
    return Jsonb(declaration.model_dump(mode="json", by_alias=True))
