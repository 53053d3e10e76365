"""Rows that the audit does not miss: their jobs wait or failed, or their expressions fail."""

from matching_pipeline.db.connections import Connection
from matching_pipeline.matches.audit import audit
from matching_pipeline.sources.attach import attach
from matching_pipeline.sources.declarations import Declarations, TextEmbeddings
from matching_pipeline.sources.source import Source
from matching_pipeline_tests.conftest import EXAMPLES
from matching_pipeline_tests.fixtures.app import App
from matching_pipeline_tests.integration.school import School


def missing(connection: Connection) -> dict[str, int]:
    faults = audit(connection, EXAMPLES).faults
    assert {fault.what for fault in faults} <= {"missing"}
    return {fault.table: fault.rows for fault in faults}


def test_a_row_whose_job_waits_or_failed_is_not_missing(connection: Connection) -> None:
    app = App(connection)
    app.product_image(app.product())
    app.run("insert into jobs (title) values ('Baker')")
    School(connection, "").face_of("male", (0,))
    assert missing(connection) == {}
    app.run("update matching_pipeline.jobs set status = 'failed', completed_at = now(), error_message = 'broken'")
    assert missing(connection) == {}
    app.settle()
    assert missing(connection) == {f"mirror of {name}": 1 for name in ("product", "posting", "face")}


def test_a_row_whose_expression_fails_has_no_mirror(connection: Connection) -> None:
    """The audit reads on after the failure."""
    failing = Source(name="note", table="public.jobs", text=("(t.title)::integer",))
    declarations = Declarations(sources=(failing,), texts=(TextEmbeddings(name="words", sources=("note",)),))
    attach(connection, declarations)
    connection.execute("insert into jobs (title) values ('12'), ('Baker'), ('13')")
    connection.execute("delete from matching_pipeline.jobs")
    (fault,), _ = audit(connection, declarations)
    assert (fault.table, fault.what, fault.rows) == ("mirror of note", "missing", 3)
