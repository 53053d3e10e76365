"""A rebuild end to end, in shards, next to the kernel alone on the same arrays: first, and with nothing changed."""

import time
from collections.abc import Callable
from uuid import UUID

import numpy as np
from psycopg import sql
from psycopg.types.json import Jsonb

from benchmarks.face_data import FACE, Faces
from benchmarks.kernel import DIMENSIONS, Vectors, clustered, ids_of
from matching_pipeline import examples
from matching_pipeline.db.connections import Connection, connect
from matching_pipeline.matches import image_sets
from matching_pipeline.matches.image_sets import Members
from matching_pipeline.matches.kernel.columns import as_uuids
from matching_pipeline.matches.kernel.search import best_pairs
from matching_pipeline.matches.matching import matching_of
from matching_pipeline.matches.scoring import match_policy
from matching_pipeline.matches.writing import Figures
from matching_pipeline.sources.documents import load

PROJECT = matching_of(load(examples.FOLDER).matchers[0])
MODEL = "bench"
WORDS = {
    "colors": ("red", "blue", "green", "grey"),
    "materials": ("oak", "steel", "wool"),
    "style": ("plain", "bold"),
}
UNPUBLISHED = "first, not published"
SOURCES = {
    "project": ("listings", "listing_images", "listing_id", "image_url"),
    "product": ("products", "product_images", "product_id", "src"),
}


def main(database_url: str, projects: int, products: int, face_count: int, schools: int) -> None:
    with connect(database_url) as connection, connect(database_url) as listener:
        # as in a restored dump, no trigger queues jobs
        connection.execute("set session_replication_role = replica")
        insert_images(connection, "project", clustered(projects, 1, 0.6), 0)
        insert_images(connection, "product", clustered(products, 2, 0.6), projects)
        Faces(face_count, schools).insert(connection)
        connection.execute("set session_replication_role = origin")
        connection.execute("vacuum analyze")
        for channel in ("matches", "matching_pipeline_jobs"):
            listener.execute(f"listen {channel}".encode())
        print(f"\n## Rebuild: {projects} projects × {products} products, an image of {DIMENSIONS} dimensions each\n")
        report(connection, listener, PROJECT.rebuild, project_kernel)
        print(f"\n## Rebuild: {face_count} faces in {schools} schools, {DIMENSIONS} dimensions\n")
        report(connection, listener, FACE.rebuild, face_kernel)


def report(
    connection: Connection,
    listener: Connection,
    rebuild: Callable[[Connection], Figures],
    kernel: Callable[[Connection], float],
) -> None:
    print("| | seconds | times the kernel's | rows written | WAL, KB | notifications |\n|---|---|---|---|---|---|")
    for name in (UNPUBLISHED, "first", "nothing changed", "nothing changed"):
        alone = kernel(connection)
        publishing(connection, name != UNPUBLISHED)
        before = wal_position(connection)
        began = time.perf_counter()
        figures = rebuild(connection)
        seconds = time.perf_counter() - began
        wal = wal_position(connection) - before
        heard = len(list(listener.notifies(timeout=0.5)))
        written = figures.added + figures.changed + figures.removed
        # the first read of new rows marks them as committed, and Postgres logs the page; not the next rebuild's cost
        connection.execute("vacuum matching_pipeline.matches")
        print(f"| {name} | {seconds:.2f} | {seconds / alone:.1f} | {written} | {wal / 1024:.0f} | {heard} |")
        if name == UNPUBLISHED:
            connection.execute("set session_replication_role = replica")
            connection.execute("truncate matching_pipeline.matches")
            connection.execute("set session_replication_role = origin")
    print(f"\nthe kernel alone: {alone:.2f} s")


def publishing(connection: Connection, on: bool) -> None:
    """Publishing writes each pair a second time, into a table of the app with indexes of its own."""
    how = b"enable" if on else b"disable"
    connection.execute(b"alter table matching_pipeline.matches " + how + b" trigger matches_publish_insert")


def project_kernel(connection: Connection) -> float:
    policy = match_policy(connection, PROJECT.name)
    left, right = (image_sets.load(connection, Members(source, MODEL)) for source in SOURCES)
    began = time.perf_counter()
    best_pairs(left, [right], policy)
    return time.perf_counter() - began


def face_kernel(connection: Connection) -> float:
    """School by school, both directions."""
    policy, seconds = match_policy(connection, FACE.name), 0.0
    for (school,) in connection.execute("select distinct school from profiles").fetchall():
        female, male = (
            image_sets.load(connection, Members("face", "face", (("school", school), ("gender", gender))))
            for gender in ("female", "male")
        )
        began = time.perf_counter()
        best_pairs(female, [male], policy), best_pairs(male, [female], policy)
        seconds += time.perf_counter() - began
    return seconds


def wal_position(connection: Connection) -> int:
    (position,) = connection.execute("select pg_current_wal_insert_lsn() - '0/0'").fetchone() or (0,)
    return int(position)


def insert_images(connection: Connection, source: str, vectors: Vectors, first: int) -> list[UUID]:
    """One analysed image for each entity, with the same id, and the mirror of both."""
    entities, images, entity, url = (sql.Identifier(name) for name in SOURCES[source])
    ids = as_uuids(ids_of(np.arange(first + 1, first + 1 + len(vectors))))
    random = np.random.default_rng(first)
    connection.execute(
        "insert into matching_pipeline.embedding_models (name, modality, dimensions, status) "
        "values (%s, 'image', %s, 'active') on conflict do nothing",
        (MODEL, DIMENSIONS),
    )
    with connection.cursor() as cursor:
        columns = sql.SQL("id, type") if source == "project" else sql.SQL("id")
        with cursor.copy(sql.SQL("copy {} ({}) from stdin").format(entities, columns)) as copy:
            for id in ids:
                copy.write_row((id, "project") if source == "project" else (id,))
        with cursor.copy(sql.SQL("copy {} (id, {}, {}) from stdin").format(images, entity, url)) as copy:
            for id in ids:
                copy.write_row((id, id, "file:///bench"))
        cursor.execute(
            "insert into matching_pipeline.entities (source, id, key) "
            "select %s, id, id::text from unnest(%s::uuid[]) as id",
            (source, ids),
        )
        cursor.execute(
            "insert into matching_pipeline.items (source, id, entity, key, content) "
            "select %s, id, id, id::text, 'file:///bench' from unnest(%s::uuid[]) as id",
            (source, ids),
        )
        with cursor.copy(
            "copy matching_pipeline.embeddings (source, item, model, dimensions, embedding, attributes, input) "
            "from stdin (format binary)"
        ) as copy:
            copy.set_types(["text", "uuid", "text", "int4", "vector", "jsonb", "text"])
            for id, vector in zip(ids, vectors, strict=True):
                attributes = {key: [str(random.choice(words))] for key, words in WORDS.items()}
                copy.write_row((source, id, MODEL, DIMENSIONS, vector, Jsonb(attributes), "file:///bench"))
    return ids
