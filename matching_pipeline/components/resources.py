"""What assets, sensors and checks need of the world."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, cached_property
from pathlib import Path

import dagster as dg
from pydantic import Field

from matching_pipeline.db.connections import Connection, connect
from matching_pipeline.db.embedded import resolve_database_url
from matching_pipeline.settings import Settings
from matching_pipeline.sources.declarations import Declarations
from matching_pipeline.sources.documents import declared

RUN_TAGS = {"matching_pipeline/job": "true"}
"""On each run of this package's jobs: `cleanup` deletes no others."""


class Pipeline(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The settings and the database, as the environment gives them, and the declarations."""

    definitions_dir: str | None = Field(
        None, description="The declarations are in this folder; if unset, where the settings say."
    )

    @property
    def settings(self) -> Settings:
        if self.definitions_dir is None:
            return Settings()
        return Settings(definitions_dir=Path(self.definitions_dir))

    @cached_property
    def declarations(self) -> Declarations:
        """The declarations as they were in the folder at the first call."""
        return declared(self.settings)

    @property
    def database_url(self) -> str:
        return resolve_database_url(self.settings)

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        with connect(self.database_url) as connection:
            yield connection


@cache
def pipeline_in(folder: Path) -> Pipeline:
    """The resource of all components in a folder: Dagster merges definitions only if they share the object."""
    return Pipeline(definitions_dir=str(folder))
