"""A rebuild end to end, in shards, next to the kernel alone on the same arrays: first, and with nothing changed."""

import time
from collections.abc import Callable
from uuid import UUID

import numpy as np
from psycopg import sql
from psycopg.types.json import Jsonb

from benchmarks.face_data import Faces
from benchmarks.kernel import DIMENSIONS, Vectors, clustered, ids_of
from matching_pipeline.db.connections import Connection, connect
from matching_pipeline.matches import faces
from matching_pipeline.matches import projects as match_projects
from matching_pipeline.matches.image_sets import Block, load_faces, load_image_set
from matching_pipeline.matches.kernel.columns import as_uuids
from matching_pipeline.matches.kernel.search import best_pairs
from matching_pipeline.matches.match_table import Figures, match_policy

MODEL = "bench"
WORDS = {
    "colors": ("red", "blue", "green", "grey"),
    "materials": ("oak", "steel", "wool"),
    "style": ("plain", "bold"),
}
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
        for channel in ("matches", "job_queue"):
            listener.execute(f"listen {channel}".encode())
        print(f"\n## Rebuild: {projects} projects × {products} products, an image of {DIMENSIONS} dimensions each\n")
        report(connection, listener, match_projects.rebuild, project_kernel)
        print(f"\n## Rebuild: {face_count} faces in {schools} schools, {DIMENSIONS} dimensions\n")
        report(connection, listener, faces.rebuild, face_kernel)


def report(
    connection: Connection,
    listener: Connection,
    rebuild: Callable[[Connection], Figures],
    kernel: Callable[[Connection], float],
) -> None:
    print("| | seconds | times the kernel's | rows written | WAL, KB | notifications |\n|---|---|---|---|---|---|")
    for name in ("first", "nothing changed", "nothing changed"):
        alone = kernel(connection)
        before = wal_position(connection)
        began = time.perf_counter()
        figures = rebuild(connection)
        seconds = time.perf_counter() - began
        wal = wal_position(connection) - before
        heard = len(list(listener.notifies(timeout=0.5)))
        written = figures.added + figures.changed + figures.removed
        # the first read of new rows marks them as committed, and Postgres logs the page; not the next rebuild's cost
        connection.execute("vacuum matches")
        print(f"| {name} | {seconds:.2f} | {seconds / alone:.1f} | {written} | {wal / 1024:.0f} | {heard} |")
    print(f"\nthe kernel alone: {alone:.2f} s")


def project_kernel(connection: Connection) -> float:
    policy = match_policy(connection, match_projects.KIND)
    left, right = (load_image_set(connection, source, MODEL) for source in SOURCES)
    began = time.perf_counter()
    best_pairs(left, [right], policy)
    return time.perf_counter() - began


def face_kernel(connection: Connection) -> float:
    """School by school, both directions."""
    policy, seconds = match_policy(connection, faces.KIND), 0.0
    for (school,) in connection.execute("select distinct school from profiles").fetchall():
        female, male = (load_faces(connection, Block(school, gender)) for gender in ("female", "male"))
        began = time.perf_counter()
        best_pairs(female, [male], policy), best_pairs(male, [female], policy)
        seconds += time.perf_counter() - began
    return seconds


def wal_position(connection: Connection) -> int:
    (position,) = connection.execute("select pg_current_wal_insert_lsn() - '0/0'").fetchone() or (0,)
    return int(position)


def insert_images(connection: Connection, source: str, vectors: Vectors, first: int) -> list[UUID]:
    """One image for each entity, with the same id."""
    entities, images, entity, url = (sql.Identifier(name) for name in SOURCES[source])
    ids = as_uuids(ids_of(np.arange(first + 1, first + 1 + len(vectors))))
    random = np.random.default_rng(first)
    connection.execute(
        "insert into embedding_models (name, modality, dimensions, status) values (%s, 'image', %s, 'active') "
        "on conflict do nothing",
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
        with cursor.copy(
            "copy image_ai (source, image_id, model, dimensions, embedding, attributes, image_url, content_hash, "
            "thumbnail) from stdin (format binary)"
        ) as copy:
            copy.set_types(["text", "uuid", "text", "int4", "vector", "jsonb", "text", "text", "text"])
            for id, vector in zip(ids, vectors, strict=True):
                copy.write_row(image_row(source, id, vector, random))
    return ids


def image_row(source: str, id: UUID, vector: Vectors, random: np.random.Generator) -> tuple[object, ...]:
    attributes = {key: [str(random.choice(words))] for key, words in WORDS.items()}
    return (source, id, MODEL, DIMENSIONS, vector, Jsonb(attributes), "file:///bench", str(id), "")
