"""A marketplace whose embeddings are given, to test what follows from them."""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from itertools import count
from typing import Any, NamedTuple
from uuid import UUID

from psycopg.types.json import Jsonb

from matching_pipeline.db.connections import Connection
from matching_pipeline.db.transactions import snapshot
from matching_pipeline.handlers.matches import MatchHandler
from matching_pipeline.matches.matching import matching_of
from matching_pipeline.matches.parity import expected_lists
from matching_pipeline.models.registry import model_of
from matching_pipeline.queues.client import Job
from matching_pipeline.queues.handler import Outcome
from matching_pipeline.queues.worker import QueueWorker
from matching_pipeline.sources.items import forget_outdated, read_items, write_mirror
from matching_pipeline.sources.reading import SourceRow
from matching_pipeline_tests.conftest import EXAMPLES
from matching_pipeline_tests.fixtures.app import mirror_picture

MODEL = "given"
PROJECT_RULE, _ = EXAMPLES.matchers
PROJECT = matching_of(PROJECT_RULE)
SOURCES = {
    "project": ("listing_images", "listing_id", "image_url"),
    "product": ("product_images", "product_id", "src"),
}

Row = tuple[UUID, UUID, float, UUID, UUID, int]
"""project, product, similarity, project image, product image, rank"""


def url_of(vector: Sequence[float], colors: Sequence[str]) -> str:
    """A URL that names the result of the analysis."""
    return f"given:{','.join(map(str, vector))};{','.join(colors)}"


class Read(NamedTuple):
    row: SourceRow


class GivenImages:
    """As the handler of images, but a URL names the result. Other URLs have none."""

    batch_size = 20
    lease = timedelta(minutes=1)

    def __init__(self, queue: str) -> None:
        self.queue = queue

    def work(self, connection: Connection, jobs: Sequence[Job]) -> Iterator[list[Outcome]]:
        rows, outcomes = read_items(connection, jobs)
        yield outcomes + [Outcome(job, Read(row)) for job, row in rows.items()]

    def prepare_write(self, connection: Connection) -> None:
        """Nothing to take."""

    def write(self, connection: Connection, outcomes: Sequence[Outcome]) -> None:
        model = model_of(connection, self.queue)
        for outcome, row in write_mirror(connection, self.queue, outcomes):
            url = str(row.content)
            if model and row.item_key and url == outcome.result.row.content and url.startswith("given:"):
                vector, colors = url.removeprefix("given:").split(";")
                values = [float(value) for value in vector.split(",")]
                words = [color for color in colors.split(",") if color]
                write_embedding(connection, outcome.job.source, row.item_key, model, values, words)

    def forget(self, connection: Connection, job: Job) -> None:
        forget_outdated(connection, self.queue, job)


def write_embedding(
    connection: Connection, source: str, image: str, model: str, vector: Sequence[float], colors: Sequence[str]
) -> None:
    connection.execute(
        """insert into matching_pipeline.embeddings
            (source, item, model, dimensions, embedding, attributes, input, input_hash, thumbnail)
        select source, id, %s, %s, %s::float4[]::vector, %s, content, 'hash', 'thumbnail'
        from matching_pipeline.items where source = %s and key = %s
        on conflict (source, item, model)
        do update set embedding = excluded.embedding, halves = excluded.halves, attributes = excluded.attributes,
            input = excluded.input""",
        (model, len(vector), [float(value) for value in vector], Jsonb({"colors": list(colors)}), source, image),
    )


class Marketplace:
    """Writes the app's rows, and embeddings in place of an analyzer."""

    def __init__(self, connection: Connection, dimensions: int = 3) -> None:
        self.connection = connection
        self._ids = count(1)
        connection.execute(
            "insert into matching_pipeline.embedding_models (name, modality, dimensions, status) "
            "values (%s, 'image', %s, 'active') on conflict do nothing",
            (MODEL, dimensions),
        )

    def new_id(self) -> UUID:
        return UUID(int=next(self._ids))

    def add(self, kind: str) -> UUID:
        entity = self.new_id()
        if kind == "project":
            self.connection.execute("insert into listings (id, type) values (%s, 'project')", (entity,))
        else:
            self.connection.execute("insert into products (id) values (%s)", (entity,))
        return entity

    def add_image(self, kind: str, entity: UUID, vector: Sequence[float], colors: Sequence[str] = ()) -> UUID:
        """As though the image was analysed in the same instant."""
        table, entity_column, url_column = SOURCES[kind]
        image = self.new_id()
        with self.connection.transaction():
            self.connection.execute(
                f"insert into {table} (id, {entity_column}, {url_column}) values (%s, %s, %s)",
                (image, entity, url_of(vector, colors)),
            )
            self.embed(kind, image, vector, colors)
        return image

    def embed(
        self, kind: str, image: UUID, vector: Sequence[float], colors: Sequence[str] = (), model: str = MODEL
    ) -> None:
        with self.connection.transaction():
            if mirror_picture(self.connection, kind, image):
                write_embedding(self.connection, kind, str(image), model, vector, colors)

    def process(self, database_url: str) -> None:
        """Works off both queues."""
        self.connection.execute("update matching_pipeline.jobs set run_at = now() where status = 'pending'")
        QueueWorker(database_url, GivenImages("image_ai")).run()
        QueueWorker(database_url, MatchHandler(PROJECT_RULE.queue, PROJECT)).run()

    def mirror(self) -> tuple[set[Any], set[Any]]:
        """The images of the mirror with their entities, and those that it should have."""
        mirrored = self.connection.execute(
            "select source, key, entity, content from matching_pipeline.items"
        ).fetchall()
        there = self.connection.execute(
            """select 'project', listing_images.id::text, listing_id, image_url
            from listing_images join listings on listings.id = listing_id where type = 'project'
            union all
            select 'product', product_images.id::text, product_id, src
            from product_images join products on products.id = product_id"""
        ).fetchall()
        return set(mirrored), set(there)

    def delete(self, table: str, id: UUID) -> None:
        self.connection.execute(f"delete from {table} where id = %s", (id,))

    def matches(self) -> list[Row]:
        return self.connection.execute(
            """select project_id, product_id, similarity, project_image_id, product_image_id, rank
            from matches where project_id is not null order by project_id, rank"""
        ).fetchall()

    def expected_matches(self) -> list[Row]:
        """By the definition, of the mirror."""
        mirrored = "select id from matching_pipeline.entities where source = 'project' order by id"
        with snapshot(self.connection):
            projects = [id for (id,) in self.connection.execute(mirrored)]
            lists = expected_lists(self.connection, PROJECT_RULE, "project", projects)
        return [
            (project, pair.right, pair.similarity, pair.left_image, pair.right_image, rank)
            for project, pairs in lists.items()
            for rank, pair in enumerate(pairs, start=1)
        ]
