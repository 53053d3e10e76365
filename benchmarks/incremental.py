"""The cost of one changed product beside many projects' images, and of one changed face in blocks of many faces."""

from collections.abc import Callable, Sequence
from functools import partial
from statistics import median
from time import perf_counter
from uuid import UUID, uuid4

import numpy as np

from benchmarks.face_data import FACE, mirror_faces
from benchmarks.kernel import clustered
from benchmarks.rebuild import PROJECT, insert_images
from matching_pipeline.db.connections import Connection, connect
from matching_pipeline.matches.locks import ListsLock
from matching_pipeline.matches.writing import Figures

TIMES = 6
BLOCKS = (100, 10_000, 100_000)
PRODUCTS = 2 * TIMES
PART = 100_000


def main(database_url: str, sizes: Sequence[int]) -> None:
    with connect(database_url) as connection:
        connection.execute("set session_replication_role = replica")
        products = insert_images(connection, "product", clustered(PRODUCTS, 2, 0.6), 0)
        print(
            "\n## One changed product: milliseconds of the first update, which adds its pairs, and of one more.\n"
            "Another product comes before. Its first update finds no block in memory, its second loads one.\n"
        )
        print("| project images | no block | loading it | first | pairs | once more |\n|---|---|---|---|---|---|")
        there = 0
        for size in sizes:
            for begin in range(there, size, PART):
                vectors = clustered(min(PART, size - begin), 3 + begin, 0.6)
                insert_images(connection, "project", vectors, PRODUCTS + begin)
            there = size
            connection.execute("truncate matching_pipeline.matches")
            connection.execute("vacuum analyze")
            print(f"| {size} | {row(connection, products[:TIMES], product_update)} |")
        print("\n## One changed face: the same\n")
        print("| faces in the opposite block | no block | loading it | first | pairs | once more |")
        print("|---|---|---|---|---|---|")
        for size in BLOCKS:
            sought = insert_block(connection, f"a school of {size}", size)
            connection.execute("vacuum analyze")
            print(f"| {size} | {row(connection, sought, face_update)} |")


def row(connection: Connection, changed: Sequence[UUID], update: Callable[[Connection, UUID], Figures]) -> str:
    first, again, pairs = [], [], []
    before = [timed(connection, partial(update, connection, changed[0]))[0] * 1000 for _ in range(2)]
    for one in changed[1:]:
        seconds, figures = timed(connection, partial(update, connection, one))
        first.append(seconds)
        pairs.append(figures.added)
        again.append(timed(connection, partial(update, connection, one))[0])
    none, loading = before
    first_time, once_more = median(first) * 1000, median(again) * 1000
    return f"{none:.0f} | {loading:.0f} | {first_time:.0f} | {median(pairs):.0f} | {once_more:.0f}"


def timed(connection: Connection, update: Callable[[], Figures]) -> tuple[float, Figures]:
    began = perf_counter()
    with connection.transaction():
        figures = update()
    return perf_counter() - began, figures


def product_update(connection: Connection, product: UUID) -> Figures:
    ListsLock(connection, PROJECT.name).take()
    return PROJECT.update(connection, {"product": [product]})


def face_update(connection: Connection, face: UUID) -> Figures:
    ListsLock(connection, FACE.name).take()
    return FACE.update(connection, {"face": [face]})


def insert_block(connection: Connection, school: str, size: int) -> list[UUID]:
    """Inserts a block of women of this size and a few men of the school. Returns the men's faces."""
    vectors = np.concatenate([clustered(TIMES, 4, 0.6), clustered(size, 5, 0.6)])
    users, ids = [uuid4() for _ in vectors], [uuid4() for _ in vectors]
    with connection.cursor() as cursor:
        with cursor.copy("copy profiles (id, school, gender) from stdin") as copy:
            for number, user in enumerate(users):
                copy.write_row((user, school, "male" if number < TIMES else "female"))
        with cursor.copy("copy faces (id, user_id, embedding) from stdin (format binary)") as copy:
            copy.set_types(["uuid", "uuid", "vector"])
            for each in zip(ids, users, vectors, strict=True):
                copy.write_row(each)
    mirror_faces(connection)
    return ids[:TIMES]
