"""A marketplace whose embeddings are given, to test what follows from them."""

import math
from collections import defaultdict
from collections.abc import Sequence
from itertools import count
from uuid import UUID

from psycopg.types.json import Jsonb

from matching_pipeline.db.connections import Connection

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

    def add(self, kind: str) -> UUID:
        owner = UUID(int=next(self._ids))
        if kind == "project":
            self.connection.execute("insert into listings (id, type) values (%s, 'project')", (owner,))
        else:
            self.connection.execute("insert into products (id) values (%s)", (owner,))
        return owner

    def add_image(self, kind: str, owner: UUID, vector: Sequence[float], colors: Sequence[str] = ()) -> UUID:
        table, owner_column, url_column = SOURCES[kind]
        image = UUID(int=next(self._ids))
        with self.connection.transaction():
            self.connection.execute(
                f"insert into {table} (id, {owner_column}, {url_column}) values (%s, %s, 'file:///given')",
                (image, owner),
            )
            self.embed(kind, image, vector, colors)
        return image

    def embed(self, kind: str, image: UUID, vector: Sequence[float], colors: Sequence[str] = ()) -> None:
        self.connection.execute(
            """insert into image_ai (source, image_id, model, dimensions, embedding, attributes, image_url,
                content_hash, thumbnail)
            values (%s, %s, %s, %s, %s::float4[]::vector, %s, 'file:///given', 'hash', 'thumbnail')
            on conflict (source, image_id, model)
            do update set embedding = excluded.embedding, attributes = excluded.attributes""",
            (kind, image, MODEL, len(vector), [float(value) for value in vector], Jsonb({"colors": list(colors)})),
        )

    def delete(self, table: str, id: UUID) -> None:
        self.connection.execute(f"delete from {table} where id = %s", (id,))

    def matches(self) -> list[Row]:
        return self.connection.execute(
            """select project_id, product_id, similarity, project_image_id, product_image_id, rank
            from matches order by project_id, rank"""
        ).fetchall()

    def expected_matches(self) -> list[Row]:
        """What `matches` means, as a plain loop over the source tables."""
        threshold, limit, weight = self.connection.execute(
            "select threshold, match_limit, attribute_weight from match_settings where kind = 'project'"
        ).fetchone() or (0, 0, 0)
        images = self._images()
        lists = defaultdict(list)
        for project, owned in images["project"].items():
            for product, offered in images["product"].items():
                similarity, one, other = min(
                    (-_score(a, b, weight), one, other) for one, a in owned.items() for other, b in offered.items()
                )
                if -similarity >= threshold:
                    lists[project].append((similarity, product, one, other))
        return [
            (project, product, -similarity, one, other, rank)
            for project in sorted(lists)
            for rank, (similarity, product, one, other) in enumerate(sorted(lists[project])[:limit], start=1)
        ]

    def _images(self) -> dict[str, dict[UUID, dict[UUID, tuple[list[float], set[str]]]]]:
        images: dict[str, dict[UUID, dict[UUID, tuple[list[float], set[str]]]]] = {"project": {}, "product": {}}
        for source, owner, image, vector, attributes in self.connection.execute(
            """select source, owner_id, image_id, embedding::float4[]::float8[], attributes
            from source_images join image_ai using (source, image_id) where model = %s""",
            (MODEL,),
        ):
            images[source].setdefault(owner, {})[image] = (vector, set(attributes["colors"]))
        return images


def _score(one: tuple[list[float], set[str]], other: tuple[list[float], set[str]], weight: float) -> float:
    dot = sum(a * b for a, b in zip(one[0], other[0], strict=True))
    cosine = dot / (math.hypot(*one[0]) * math.hypot(*other[0]))
    overlap = len(one[1] & other[1]) / math.sqrt(max(len(one[1]), 1) * max(len(other[1]), 1))
    return max(-1.0, min(1.0, round((1 - weight) * cosine + weight * overlap, 9)))
