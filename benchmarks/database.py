"""A database for one measurement: embedded, migrated, with Postgres' default settings, fsync included."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from matching_pipeline.db.connections import connect
from matching_pipeline.db.embedded import start_embedded
from matching_pipeline.db.migrations import migrate


@contextmanager
def fresh_database() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="mp-bench-") as folder:
        server = start_embedded(Path(folder) / "pg")
        try:
            with connect(server.get_uri()) as connection:
                migrate(connection)
            yield server.get_uri()
        finally:
            server.cleanup()
