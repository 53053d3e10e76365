"""A marketplace whose embeddings are given, to test what follows from them."""

from collections.abc import Sequence
from itertools import count
from uuid import UUID

from psycopg.types.json import Jsonb

from matching_pipeline.db.connections import Connection
from matching_pipeline.db.transactions import snapshot
from matching_pipeline.matches.parity import expected_lists

MODEL = "given"
SOURCES = {
    "project": ("listing_images", "listing_id", "image_url"),
    "product": ("product_images", "product_id", "src"),
}

Row = tuple[UUID, UUID, float, UUID, UUID, int]
"""project, product, similarity, project image, product image, rank"""


class Marketplace:
    """Writes the app's rows, and `image_ai` in place of an analyzer."""

    def __init__(self, connection: Connection, dimensions: int = 3) -> None:
        self.connection = connection
        self._ids = count(1)
        connection.execute(
            "insert into embedding_models (name, modality, dimensions, status) values (%s, 'image', %s, 'active') "
            "on conflict do nothing",
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
        table, entity_column, url_column = SOURCES[kind]
        image = self.new_id()
        with self.connection.transaction():
            self.connection.execute(
                f"insert into {table} (id, {entity_column}, {url_column}) values (%s, %s, 'file:///given')",
                (image, entity),
            )
            self.embed(kind, image, vector, colors)
        return image

    def embed(
        self, kind: str, image: UUID, vector: Sequence[float], colors: Sequence[str] = (), model: str = MODEL
    ) -> None:
        self.connection.execute(
            """insert into image_ai (source, image_id, model, dimensions, embedding, attributes, image_url,
                content_hash, thumbnail)
            values (%s, %s, %s, %s, %s::float4[]::vector, %s, 'file:///given', 'hash', 'thumbnail')
            on conflict (source, image_id, model)
            do update set embedding = excluded.embedding, attributes = excluded.attributes""",
            (kind, image, model, len(vector), [float(value) for value in vector], Jsonb({"colors": list(colors)})),
        )

    def delete(self, table: str, id: UUID) -> None:
        self.connection.execute(f"delete from {table} where id = %s", (id,))

    def matches(self) -> list[Row]:
        return self.connection.execute(
            """select project_id, product_id, similarity, project_image_id, product_image_id, rank
            from matches where kind = 'project' order by project_id, rank"""
        ).fetchall()

    def expected_matches(self) -> list[Row]:
        """By the definition."""
        with snapshot(self.connection):
            projects = [id for (id,) in self.connection.execute("select id from listings order by id")]
            lists = expected_lists(self.connection, "project", projects)
        return [
            (project, pair.right, pair.similarity, pair.left_image, pair.right_image, rank)
            for project, pairs in lists.items()
            for rank, pair in enumerate(pairs, start=1)
        ]
