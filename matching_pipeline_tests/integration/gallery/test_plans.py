"""The pages of a large source are found by index."""

import psycopg
import pytest

from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import query
from matching_pipeline.gallery.browsing import LAST_ID, PAGE

COUNT = 100_000


@pytest.fixture
def large(connection: Connection) -> Connection:
    connection.execute("set session_replication_role = replica")
    connection.execute(
        """insert into matching_pipeline.entities (source, id, key, mirrored_at)
        select 'product', matching_pipeline.key_id(number::text), number, now() - number * interval '1 second'
        from generate_series(1, %s) as number""",
        (COUNT,),
    )
    connection.execute("analyze matching_pipeline.entities")
    return connection


def test_a_page_of_the_newest_reads_its_own_rows_only(large: Connection) -> None:
    ((hours_ago,),) = large.execute("select (now() - interval '12 hours')::text").fetchall()
    for before in ("infinity", hours_ago):
        parameters = {"source": "product", "before": before, "after": LAST_ID, "count": PAGE + 1}
        with psycopg.ClientCursor(large) as cursor:
            rows = cursor.execute(b"explain (analyze, buffers off) " + query("gallery_newest"), parameters).fetchall()
        plan = "\n".join(line for (line,) in rows)
        assert "entities_mirrored_at_idx" in plan
        assert "Incremental Sort" in plan
        assert "Rows Removed" not in plan
