"""Migrates a database, whose URL is the argument, with whichever checkout the Python path names."""

import sys

from matching_pipeline.db.connections import connect
from matching_pipeline.db.migrations import migrate


def main(url: str) -> None:
    with connect(url) as connection:
        migrate(connection)
    try:
        from matching_pipeline import examples
        from matching_pipeline.sources.attach import attach, make_example_tables
        from matching_pipeline.sources.documents import load
    except ImportError:
        # in a checkout of version 0.1 the migrations make the app's tables
        return
    with connect(url) as connection:
        make_example_tables(connection)
        attach(connection, load(examples.FOLDER))


if __name__ == "__main__":
    main(sys.argv[1])
