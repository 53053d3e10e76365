"""The gallery's first pages beside 100,000 entities, as a ratio to an empty page."""

from collections.abc import Callable
from statistics import median
from time import perf_counter

from starlette.testclient import TestClient

from benchmarks.kernel import clustered
from benchmarks.rebuild import insert_images
from matching_pipeline.db.connections import connect
from matching_pipeline.gallery.app import make_app
from matching_pipeline.settings import Settings

COUNT = 100_000
PAIRS = 10
"""of each of a tenth of them"""
TIMES = 9
PAGES = {
    "all sources": "/",
    "the newest": "/sources/product",
    "without matches": "/sources/product?order=unmatched",
    "most matched": "/sources/product?order=most",
    "words in addresses": "/sources/product?words=none+such",
}


def main(database_url: str) -> None:
    with connect(database_url) as connection:
        connection.execute("set session_replication_role = replica")
        insert_images(connection, "product", clustered(COUNT, 1, 0.6), 0)
        connection.execute(PAIR, {"pairs": PAIRS})
        connection.execute("vacuum analyze")
    with TestClient(make_app(Settings(), database_url), base_url="http://127.0.0.1") as client:
        empty = timed(lambda: client.get("/dead-letters"))
        print(f"\n## The gallery with {COUNT} entities: milliseconds, and as a ratio to an empty page, {empty:.1f}\n")
        print("| page | ms | ratio |\n|---|---|---|")
        for name, path in PAGES.items():
            took = timed(lambda path=path: client.get(path))  # type: ignore[misc]
            print(f"| {name} | {took:.0f} | {took / empty:.1f} |")


def timed(load: Callable[[], object]) -> float:
    """The median of some loads, in milliseconds, after one."""
    load()
    took = []
    for _ in range(TIMES):
        began = perf_counter()
        load()
        took.append(1000 * (perf_counter() - began))
    return median(took)


PAIR = b"""
insert into matching_pipeline.matches
    (matcher, left_id, right_id, left_key, right_key, left_item, right_item, similarity, left_rank, model)
select 'project', matching_pipeline.key_id('p' || number), id, 'p' || number, key, id, id, 0.9, number, 'clustered'
from (select id, key from matching_pipeline.entities where source = 'product' order by id limit 10000) as matched
cross join generate_series(1, %(pairs)s) as number
"""
