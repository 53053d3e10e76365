"""The state of the app's tables into which matchers publish their pairs."""

from dataclasses import dataclass

from psycopg.rows import class_row

from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import query


@dataclass(frozen=True)
class PublicationState:
    """The state of a table of the app that gets a matcher's pairs."""

    matcher: str
    table: str
    unpublished: int
    """pairs whose row waits to be written or removed"""
    is_compared: bool
    """False while a worker compares all pairs, or waits for the table to be repaired"""
    reasons: list[str]

    @property
    def problems(self) -> list[str]:
        return [f"the pairs of {self.matcher} are not all in {self.table}: {reason}" for reason in self.reasons]

    def __str__(self) -> str:
        waiting = f"{self.unpublished} pairs wait" if self.is_compared else "all pairs are compared"
        return f"published into {self.table}; {waiting}"


def publication_states(connection: Connection) -> list[PublicationState]:
    """Every matcher that publishes."""
    with connection.cursor(row_factory=class_row(PublicationState)) as cursor:
        return cursor.execute(query("publication_states")).fetchall()
