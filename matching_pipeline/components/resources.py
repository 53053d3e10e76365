"""What assets, sensors and checks need of the world."""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from matching_pipeline.db.connections import Connection, connect
from matching_pipeline.db.embedded import resolve_database_url
from matching_pipeline.settings import Settings


class Pipeline(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The settings and the database, as the environment gives them."""

    @property
    def settings(self) -> Settings:
        return Settings()

    @property
    def database_url(self) -> str:
        return resolve_database_url(self.settings)

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        with connect(self.database_url) as connection:
            yield connection
