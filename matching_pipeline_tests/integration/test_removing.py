"""The block of docs/before.md that removes everything."""

import re
from pathlib import Path

from matching_pipeline.db.connections import Connection
from matching_pipeline.db.migrations import migrate
from matching_pipeline.sources.attach import attach
from matching_pipeline_tests.conftest import EXAMPLES
from matching_pipeline_tests.fixtures.app import App

DOCUMENT = (Path(__file__).resolve().parents[2] / "docs/before.md").read_text()
LEFT = """
    select proname::text from pg_proc where obj_description(oid, 'pg_proc') = 'exposed by matching_pipeline'
    union all
    select tgname from pg_trigger where tgname like '%matching_pipeline%'
    union all
    select relname from pg_class where obj_description(oid, 'pg_class') = 'exposed by matching_pipeline'
    union all
    select nspname from pg_namespace where nspname = 'matching_pipeline'
    union all
    select prosrc from pg_proc where prosrc like '%matching_pipeline%'
"""


def test_nothing_is_left_after_the_block_and_the_app_works_on(connection: Connection) -> None:
    app = App(connection)
    assert len(app.run(LEFT.replace("%", "%%"))) > 20
    (block,) = re.findall(r"```sql\n(.*?)```", DOCUMENT, re.DOTALL)
    connection.execute(block.encode())
    assert app.run(LEFT.replace("%", "%%")) == []
    app.product_image(app.product())
    app.run("delete from products")
    migrate(connection)
    attach(connection, EXAMPLES)
    assert app.run("select count(*) from matches") == [0]
