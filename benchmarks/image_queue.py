"""Images a second through the whole queue, fetch and writes included, against the bare analyzer in one thread."""

import tempfile
import time
from pathlib import Path

from PIL import Image

from matching_pipeline import examples
from matching_pipeline.db.connections import Connection, connect
from matching_pipeline.handlers.registry import process_due
from matching_pipeline.providers.local.analyzer import LocalImageAnalyzer
from matching_pipeline.sample_data.listings import sample_marketplace
from matching_pipeline.settings import Settings
from matching_pipeline.sources.documents import load

IMAGES = 400


def main(database_url: str) -> None:
    print("\n## Images a second with the local provider")
    with tempfile.TemporaryDirectory() as folder:
        files = distinct_pictures(Path(folder))
        bare = bare_analyzer(files)
        with connect(database_url) as connection:
            insert_products(connection, [file.as_uri() for file in files])
        settings = Settings(database_url=database_url, image_file_roots=(Path(folder),))
        began = time.monotonic()
        summary = process_due(settings, database_url, load(examples.FOLDER), "image_ai")
        through = summary.completed / (time.monotonic() - began)
    print(f"bare analyzer, decoded pictures, one thread: {bare:.1f}")
    print(f"through the queue, {summary.completed} files, {settings.image_concurrency} threads: {through:.1f}")
    print(f"ratio: {through / bare:.2f}")


def distinct_pictures(folder: Path) -> list[Path]:
    """The sample pictures, each in several sizes: equal ones would be analysed once."""
    market = sample_marketplace()
    drawn = [picture.file for listing in (*market.projects, *market.products) for picture in listing.pictures]
    files = []
    for number in range(IMAGES):
        file = folder / f"{number}.jpg"
        with Image.open(drawn[number % len(drawn)]) as picture:
            picture.resize((480, 480 - number // len(drawn))).save(file, quality=90)
        files.append(file)
    return files


def bare_analyzer(files: list[Path]) -> float:
    analyzer = LocalImageAnalyzer()
    pictures = [Image.open(file).convert("RGB") for file in files[:100]]
    analyzer.analyze(pictures[0])
    began = time.monotonic()
    for picture in pictures:
        analyzer.analyze(picture)
    return len(pictures) / (time.monotonic() - began)


def insert_products(connection: Connection, urls: list[str]) -> None:
    connection.execute("insert into products default values")
    connection.execute(
        "insert into product_images (product_id, src) select id, url from products, unnest(%s::text[]) as url",
        (urls,),
    )
