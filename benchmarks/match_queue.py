"""How soon an inserted image's matches stand, and what matching a product costs."""

import statistics
import tempfile
import threading
import time
from pathlib import Path
from uuid import UUID

import numpy as np
from PIL import Image

from benchmarks.image_queue import distinct_pictures
from benchmarks.rebuild import PROJECT
from benchmarks.serving import serve
from matching_pipeline.db.connections import Connection, connect
from matching_pipeline.providers.local.analyzer import LocalImageAnalyzer
from matching_pipeline.queues.client import stop_all
from matching_pipeline.settings import Settings

QUEUES = ("image_ai", "matches_project")
PROJECTS = 10_000
UPLOADS = 20


def main(database_url: str) -> None:
    print(f"\n## Matches of images, on {PROJECTS} projects with an image each (medians)")
    with tempfile.TemporaryDirectory() as folder, connect(database_url) as connection:
        files = distinct_pictures(Path(folder))[: UPLOADS + 1]
        fill(connection, files)
        settings = Settings(database_url=database_url, image_file_roots=(Path(folder),))
        generation = match_seconds(connection, settings, database_url, files)
        search = search_seconds(connection)
    print(f"image inserted to match visible, warm runs: {generation * 1000:.0f} ms")
    print(f"a product against all projects, and its writes: {search * 1000:.0f} ms")


def fill(connection: Connection, files: list[Path]) -> None:
    """Projects whose vectors are those of real pictures, with as much noise again as takes their cosine to 0.7."""
    model, dimensions = LocalImageAnalyzer.model, LocalImageAnalyzer.dimensions
    analyzer, random = LocalImageAnalyzer(), np.random.default_rng(0)
    drawn = np.stack([analyzer.analyze(Image.open(file).convert("RGB")).embedding for file in files])
    noise = random.normal(scale=dimensions**-0.5, size=(PROJECTS, dimensions))
    vectors = (drawn[random.integers(len(drawn), size=PROJECTS)] + noise).astype(np.float32)
    connection.execute(
        "insert into matching_pipeline.embedding_models (name, modality, dimensions, status) "
        "values (%s, 'image', %s, 'active')",
        (model, dimensions),
    )
    with connection.transaction():
        connection.execute("insert into listings (type) select 'project' from generate_series(1, %s)", (PROJECTS,))
        connection.execute(
            "insert into listing_images (listing_id, image_url) select id, 'file:///bench' from listings"
        )
        connection.execute(
            "insert into matching_pipeline.entities (source, id, key) select 'project', id, id::text from listings"
        )
        connection.execute(
            "insert into matching_pipeline.items (source, id, entity, key, content) "
            "select 'project', id, listing_id, id::text, image_url from listing_images"
        )
        ids = [id for (id,) in connection.execute("select id from listing_images")]
        with (
            connection.cursor() as cursor,
            cursor.copy(
                "copy matching_pipeline.embeddings (source, item, model, dimensions, embedding, input) from stdin"
            ) as copy,
        ):
            for id, vector in zip(ids, vectors, strict=True):
                text = "[" + ",".join(map(str, vector)) + "]"
                copy.write_row(("project", id, model, dimensions, text, "file:///bench"))
    connection.execute("delete from matching_pipeline.jobs")


def match_seconds(connection: Connection, settings: Settings, database_url: str, files: list[Path]) -> float:
    """The first upload warms up the runs and is not counted."""
    runs = [threading.Thread(target=serve, args=(database_url, queue, settings)) for queue in QUEUES]
    for run in runs:
        run.start()
    seconds = [upload(connection, file) for file in files][1:]
    stop_all(connection)
    for run in runs:
        run.join()
    return statistics.median(seconds)


def upload(connection: Connection, file: Path) -> float:
    began = time.monotonic()
    with connection.transaction():
        (product,) = connection.execute("insert into products default values returning id").fetchone() or (None,)
        connection.execute("insert into product_images (product_id, src) values (%s, %s)", (product, file.as_uri()))
    while not visible(connection, product):
        time.sleep(0.002)
    return time.monotonic() - began


def visible(connection: Connection, product: UUID | None) -> bool:
    """Whether the product's job is completed: a product that no list has room for never gets a row."""
    row = connection.execute(
        "select exists (select from matching_pipeline.jobs "
        "where key = %s and queue = 'matches_project' and status = 'completed')",
        (str(product),),
    ).fetchone()
    return row == (True,)


def search_seconds(connection: Connection) -> float:
    products = [id for (id,) in connection.execute("select id from products")]
    seconds = []
    for product in products:
        began = time.monotonic()
        with connection.transaction():
            PROJECT.update(connection, {"product": [product]})
        seconds.append(time.monotonic() - began)
    return statistics.median(seconds)
