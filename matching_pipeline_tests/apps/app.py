"""An app of this folder in a database: its tables, its statements, and workers that do what follows from them."""

import re
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image, ImageDraw

from matching_pipeline.db.connections import Connection, connect
from matching_pipeline.handlers import registry
from matching_pipeline.queues.progress import Summary
from matching_pipeline.settings import Settings
from matching_pipeline.sources.declarations import Declarations
from matching_pipeline.sources.documents import load
from matching_pipeline_tests.fixtures.pictures import PictureServer, nothing

FOLDER = Path(__file__).parent
NAMES = sorted(path.parent.name for path in FOLDER.glob("*/tables.sql"))
WRITER = "app_writer"
"""The role with which the apps write: it has rights on the app's tables only."""
PICTURES = 16


class Entity(NamedTuple):
    """An entity as the app's own tables say it."""

    source: str
    key: str
    properties: dict[str, str]
    contents: list[str]
    """the URLs of its pictures, its text, or its vector"""


class App:
    def __init__(self, name: str, folder: Path, server: PictureServer) -> None:
        self.name = name
        self._address = server.url("")
        self._folder = folder
        declared = folder / "defs" / "defs.yaml"
        declared.parent.mkdir()
        declared.write_text(self._read("defs.yaml"))
        self.declarations: Declarations = load(declared.parent)
        parts = re.split(r"^-- ([a-z ]+)\n", self._read("statements.sql"), flags=re.MULTILINE)
        self.statements = dict(zip(parts[1::2], parts[2::2], strict=True))

    def make_tables(self, connection: Connection) -> None:
        """As the app's migrations do, with its first rows; the writer may write all of it."""
        connection.execute((FOLDER / "helpers.sql").read_bytes())
        connection.execute(self._read("tables.sql").encode())
        for schema in self.schemas(connection):
            connection.execute(
                f"""grant usage on schema {schema} to {WRITER};
                grant all on all tables in schema {schema} to {WRITER};
                grant all on all sequences in schema {schema} to {WRITER}""".encode()
            )
        connection.execute("analyze")

    def schemas(self, connection: Connection) -> list[str]:
        rows = connection.execute(
            "select nspname from pg_namespace where nspname !~ '^pg_' "
            "and nspname not in ('information_schema', 'matching_pipeline')"
        )
        return [schema for (schema,) in rows]

    def write(self, url: str, *sections: str, role: str | None = WRITER) -> None:
        """Makes the statements of these sections, each in a transaction of its own, as the app would."""
        with connect(url) as connection:
            if role:
                connection.execute(f"set role {role}".encode())
            for section in sections:
                for statement in self._statements(section):
                    connection.execute(statement)

    def work(self, url: str) -> None:
        """Does all jobs, also those that are due later."""
        settings = Settings(
            database_url=url,
            data_dir=self._folder,
            image_model="local",
            text_model="local",
            image_generator="local",
            image_allow_private_hosts=True,
        )
        analyzed = 0

        def analyze(done: Summary) -> None:
            """As autovacuum would, which is off in tests."""
            nonlocal analyzed
            if done.counts.total() > 2 * analyzed + 100:
                analyzed = done.counts.total()
                connection.execute("analyze matching_pipeline.jobs, matching_pipeline.entities")
                connection.execute("analyze matching_pipeline.items, matching_pipeline.embeddings")
                connection.execute("analyze matching_pipeline.matches")

        with connect(url) as connection:
            for _ in range(20):
                due = "update matching_pipeline.jobs set run_at = now() where status = 'pending'"
                if not connection.execute(due).rowcount:
                    return
                for queue in self.declarations.queues:
                    registry.process_due(settings, url, self.declarations, queue, analyze)
        raise AssertionError("the queues are never empty")

    def expected(self, connection: Connection) -> list[Entity]:
        """All entities, by the app's own query."""
        return [Entity(*row) for row in connection.execute(self.statements["expected"].encode()).fetchall()]

    def told(self, connection: Connection) -> list[bool]:
        """What the app's own queries say of results in its tables."""
        return [holds for statement in self._statements("holds") for (holds,) in connection.execute(statement)]

    def _statements(self, section: str) -> list[bytes]:
        parts = re.split(r";\n", self.statements.get(section, ""))
        return [statement.encode() for statement in parts if statement.strip()]

    def _read(self, file: str) -> str:
        return (FOLDER / self.name / file).read_text().replace("http://pictures.test", self._address)


def picture_server() -> PictureServer:
    """Answers every path with the picture that its last number names, of sixteen."""
    server = PictureServer()
    server.pictures = _Gallery(PICTURES)
    return server


class _Gallery(dict[str, tuple[int, bytes, dict[str, str], Callable[[], object]]]):
    def __init__(self, count: int) -> None:
        super().__init__()
        self._files = [_draw(number) for number in range(count)]

    def get(self, path: str, default: Any = None) -> Any:
        number = int(re.findall(r"\d+", path)[-1])
        return 200, self._files[number % len(self._files)], {}, nothing


def _draw(number: int) -> bytes:
    image = Image.new("RGB", (48, 48), (40 + 12 * number, 230 - 9 * number, 60 + number * 67 % 180))
    draw = ImageDraw.Draw(image)
    for step in range(1 + number % 5):
        left, top = number * 7 % 30 + step * 3, number * 11 % 25 + step * 4
        shape = draw.ellipse if number % 2 else draw.rectangle
        shape((left, top, left + 8 + number, top + 20 - number), fill=(250 - 20 * step, 13 * number, 90))
    file = BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def catalog(connection: Connection, schemas: list[str]) -> set[tuple[str, str]]:
    """All that the schemas hold, in Postgres' own words, without what we expose there."""
    rows = connection.execute((FOLDER / "catalog.sql").read_bytes(), {"schemas": schemas})
    return set(rows.fetchall())
