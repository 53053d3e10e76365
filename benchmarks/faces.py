"""The field's table «Performance Benchmarks» with its Measured column filled: the cost of an uploaded face, and the
time until its matches can be read."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from threading import Barrier, Thread
from uuid import UUID

import numpy as np
from psycopg import Notify

from benchmarks.face_data import FACE, FACE_RULE, GENDERS, SCHOOLS, Faces, Upload
from benchmarks.serving import serve
from matching_pipeline.db.connections import Connection, connect
from matching_pipeline.matches.locks import ListsLock
from matching_pipeline.queues.client import queue_state, stop_all
from matching_pipeline.sources.reading import read_all
from matching_pipeline.sources.vectors import mirror_vectors

TIMES = 200
"""Repetitions of every measurement but the rebuild."""
AT_ONCE = 100


def main(database_url: str, count: int) -> None:
    faces = Faces(count)
    with connect(database_url) as connection:
        faces.insert(connection)
        connection.execute("truncate matching_pipeline.jobs")
        without, enqueued = enqueue_seconds(connection, faces)
        rebuilds = [seconds(lambda: FACE.rebuild(connection)) for _ in range(2)]
        connection.execute("truncate matching_pipeline.jobs")
        connection.execute("vacuum analyze")
        function, blocks = function_seconds(connection, faces)
        search = search_seconds(connection, faces)
        write = write_seconds(connection, faces)
        with serving_process(database_url, connection), connect(database_url) as feed:
            feed.execute("listen matches")
            visible = visible_seconds(connection, feed, faces)
            broadcast = broadcast_seconds(connection, feed)
            at_once = seconds_at_once(database_url, connection, feed, faces)
        (pairs,) = connection.execute("select count(*) from matches").fetchone() or (0,)

    sizes = faces.block_sizes()
    least, median, most = np.percentile(sizes.sum(axis=1), [0, 50, 100])
    print(f"\n## The field's table, on {count} faces in {SCHOOLS} schools")
    print(f"schools of {least:.0f} to {most:.0f} faces, lognormal, median {median:.0f}")
    print("searched blocks of {:.0f} faces at the median, {:.0f} at p95".format(*np.percentile(blocks, [50, 95])))
    print(f"{TIMES} times each: median (p95); {pairs} pairs\n")
    print("| Metric | Target | Measured |\n|--------|--------|----------|")
    print(f"| Upload API response: its insert, a transaction | <500ms | {spread(enqueued)} |")
    added = np.median(enqueued) - np.median(without)
    print(f"| Job enqueue time, added to that insert | <50ms | {added * 1000:.1f} ms |")
    print(f"| Match generation, upload to visible match, warm run | <10s | {spread(visible)} |")
    print(f"| ... {AT_ONCE} concurrent uploads to the last visible match | | {at_once:.2f} s |")
    print(f"| Vector search, `find_similar_faces_filtered` | <3s | {spread(function)} |")
    print(f"| ... in the handler, both directions | | {spread(search)} |")
    print(f"| Batch insert | <2s | {spread(write)} |")
    print(f"| Realtime broadcast, commit to message | <1s | {spread(broadcast)} |")
    print(f"\nfirst rebuild {rebuilds[0]:.1f} s, a second that changes nothing {rebuilds[1]:.1f} s")


def seconds(action: Callable[[], object]) -> float:
    began = time.monotonic()
    action()
    return time.monotonic() - began


def spread(measured: Sequence[float]) -> str:
    return "{:.1f} ms ({:.1f})".format(*np.percentile(measured, [50, 95]) * 1000)


def enqueue_seconds(connection: Connection, faces: Faces) -> tuple[list[float], list[float]]:
    """Inserts without the trigger and with it, in turns. The first insert of each turn is not counted."""
    measured: dict[str, list[float]] = {"disable": [], "enable": []}
    for switch in ("disable", "enable") * 5:
        connection.execute(f"alter table faces {switch} trigger matching_pipeline_face_insert".encode())
        turn = faces.uploads(connection, TIMES // 5 + 1)
        measured[switch] += [seconds(partial(upload.insert, connection)) for upload in turn][1:]
    return measured["disable"], measured["enable"]


def function_seconds(connection: Connection, faces: Faces) -> tuple[list[float], list[int]]:
    sizes, measured, blocks = faces.block_sizes(), [], []
    for face in faces.random.choice(len(faces.ids), size=TIMES):
        school, gender = faces.schools[face], faces.genders[face]
        arguments = (faces.vectors[face], f"school {school}", GENDERS[gender])
        statement = "select * from find_similar_faces_filtered(%s, %s, %s)"
        began = time.monotonic()
        connection.execute(statement, arguments).fetchall()
        measured.append(time.monotonic() - began)
        blocks.append(int(sizes[school, 1 - gender]))
    return measured, blocks


def search_seconds(connection: Connection, faces: Faces) -> list[float]:
    """The update of a face that has not changed writes nothing."""
    measured = []
    for face in faces.random.choice(len(faces.ids), size=TIMES):
        with connection.transaction():
            ListsLock(connection, FACE.name).take()
            measured.append(seconds(partial(FACE.update, connection, {"face": [faces.ids[face]]})))
    return measured


def write_seconds(connection: Connection, faces: Faces) -> list[float]:
    """The time by which an update that writes exceeds the same update after it, plus the commit. An update before
    them brings the faces into memory."""
    measured = []
    for upload in faces.uploads(connection, TIMES):
        with connection.transaction():
            ListsLock(connection, FACE.name).take()
            face = upload.insert(connection)
            rows = read_all(connection, "face", "entity", [str(face)])
            mirror_vectors(connection, FACE_RULE.queue, "face", [str(face)], rows)
            once = partial(FACE.update, connection, {"face": [face]})
            with connection.transaction(force_rollback=True):
                once()
            write = seconds(once) - seconds(once)
            began = time.monotonic()
        measured.append(max(write, 0) + time.monotonic() - began)
    connection.execute("truncate matching_pipeline.jobs")
    return measured


@contextmanager
def serving_process(database_url: str, connection: Connection) -> Iterator[None]:
    """A worker in a process of its own, as Dagster's runs are."""
    run = get_context("spawn").Process(target=serve, args=(database_url, FACE_RULE.queue))
    run.start()
    while not queue_state(connection, FACE_RULE.queue).workers:
        time.sleep(0.1)
    yield
    stop_all(connection)
    run.join()


def visible_seconds(connection: Connection, feed: Connection, faces: Faces) -> list[float]:
    """The first upload warms up the worker and is not counted."""

    def upload_one(upload: Upload) -> None:
        wait_until_visible(connection, feed, {upload.insert(connection)})

    return [seconds(partial(upload_one, upload)) for upload in faces.uploads(connection, TIMES + 1)][1:]


def wait_until_visible(connection: Connection, feed: Connection, faces: set[UUID]) -> None:
    """Reads the table whenever the feed announces new pairs."""
    while faces:
        heard(feed)
        rows = connection.execute(
            "select face_a_id, face_b_id from matches where face_a_id = any (%(ids)s) or face_b_id = any (%(ids)s)",
            {"ids": list(faces)},
        )
        faces -= {face for row in rows for face in row}


def heard(feed: Connection) -> Notify:
    for notice in feed.notifies(timeout=60, stop_after=1):
        return notice
    raise TimeoutError("no new pairs for a minute")


def broadcast_seconds(connection: Connection, feed: Connection) -> list[float]:
    """From the commit on, of a pair that is replaced by itself."""
    list(feed.notifies(timeout=1))
    measured = []
    for (pair,) in connection.execute("select id from matching_pipeline.matches limit %s", (TIMES,)).fetchall():
        with connection.transaction():
            connection.execute("set local matching_pipeline.skip_matching = 'on'")
            connection.execute(
                "with old as (delete from matching_pipeline.matches where id = %s returning *) "
                "insert into matching_pipeline.matches select * from old",
                (pair,),
            )
            began = time.monotonic()
        heard(feed)
        measured.append(time.monotonic() - began)
    return measured


def seconds_at_once(database_url: str, connection: Connection, feed: Connection, faces: Faces) -> float:
    """From the begin of the first insert until the last face's pairs can be read."""
    uploads, begin, inserted = faces.uploads(connection, AT_ONCE), Barrier(AT_ONCE + 1), set[UUID]()

    def upload_one(upload: Upload) -> None:
        with connect(database_url) as own:
            begin.wait()
            inserted.add(upload.insert(own))

    threads = [Thread(target=upload_one, args=(upload,)) for upload in uploads]
    for thread in threads:
        thread.start()
    begin.wait()
    began = time.monotonic()
    for thread in threads:
        thread.join()
    wait_until_visible(connection, feed, inserted)
    return time.monotonic() - began
