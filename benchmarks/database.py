"""A database for one measurement: embedded, with the examples attached, with Postgres' default settings, fsync
included; it takes more sessions than by default."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from matching_pipeline import examples
from matching_pipeline.db.connections import connect
from matching_pipeline.db.embedded import start_embedded
from matching_pipeline.db.migrations import migrate
from matching_pipeline.sources.attach import attach, make_example_tables
from matching_pipeline.sources.documents import load


@contextmanager
def fresh_database() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="mp-bench-") as folder:
        server = start_embedded(Path(folder) / "pg")
        try:
            with connect(server.get_uri()) as connection:
                connection.execute("alter system set max_connections = 150")
            server.stop()
            server.ensure_postgres_running()
            with connect(server.get_uri()) as connection:
                migrate(connection)
            with connect(server.get_uri()) as connection:
                make_example_tables(connection)
                attach(connection, load(examples.FOLDER))
                # as if the comparison with the empty tables were done
                connection.execute("truncate matching_pipeline.jobs")
            yield server.get_uri()
        finally:
            server.cleanup()
