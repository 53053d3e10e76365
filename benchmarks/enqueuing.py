"""What triggers and the mirror cost the app: time and WAL of its statements, attaching under traffic, storage.

It measures this checkout and, with `--against`, another checkout in the same way; ratios are this to the other.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from matching_pipeline import examples
from matching_pipeline.db.connections import connect
from matching_pipeline.db.embedded import start_embedded
from matching_pipeline.handlers.matches import MatchHandler
from matching_pipeline.matches.matching import attached
from matching_pipeline.queues.worker import QueueWorker
from matching_pipeline.sources.attach import attach
from matching_pipeline.sources.documents import load

ROOT = Path(__file__).resolve().parents[1]
SINGLE = 400
MANY = 10_000
ROUNDS = 5

VECTOR = (
    "(select array_agg(random() - 0.5 order by i) from generate_series(1, 512) as i where {of} is not null)::vector"
)
DERIVED = ("matches", "embeddings", "items", "entities")
ONE_FACE = "insert into faces (user_id, embedding) values (%s, %s)"
MANY_FACES = f"""
insert into faces (user_id, embedding)
select id, {VECTOR.format(of="profiles.id")} from profiles order by school, id limit %s offset %s
"""
# vectors of which one pair in a hundred is alike enough to match
SIMILAR_FACES = MANY_FACES.replace("random() - 0.5", "random() - 0.25")
SEEN = "update profiles set last_seen = now()"
STORAGE = """
select relname, pg_total_relation_size(pg_class.oid) from pg_class
where relnamespace = 'matching_pipeline'::regnamespace
  and relname in ('entities', 'items', 'embeddings', 'jobs', 'matches')
order by relname
"""


def main(against: Path | None, face_count: int) -> None:
    print("\n## The app's statements, with the triggers")
    figures = {"here": _statements(ROOT)}
    if against is not None:
        figures["there"] = _statements(against.resolve())
    for name, value in figures["here"].items():
        ratio = f", {value / figures['there'][name]:.2f} times {figures['there'][name]:.4g} there" if against else ""
        print(f"- {name}: {value:.4g}{ratio}")
    with _database(ROOT) as connection:
        print("\n## Attaching a table of a million rows while the app writes")
        _attach_under_traffic(connection)
    with _database(ROOT) as connection:
        print(f"\n## {face_count:,} faces")
        _storage(connection, face_count)
    with _database(ROOT) as connection:
        print(f"\n## TRUNCATE of {face_count:,} faces with their pairs")
        _truncation(connection, face_count)


@contextmanager
def _database(checkout: Path) -> Iterator[psycopg.Connection]:
    with tempfile.TemporaryDirectory(prefix="mp-bench-") as folder:
        server = start_embedded(Path(folder) / "pg")
        try:
            environment = {**os.environ, "PYTHONPATH": str(checkout)}
            command = [sys.executable, str(ROOT / "benchmarks" / "prepare.py"), server.get_uri()]
            subprocess.run(command, check=True, cwd=folder, env=environment)
            with connect(server.get_uri()) as connection:
                yield connection
        finally:
            server.cleanup()


def _statements(checkout: Path) -> dict[str, float]:
    """Medians of the fastest half of the rounds: another process may disturb some of them."""
    with _database(checkout) as connection:
        connection.execute("alter table profiles add column last_seen timestamptz")
        connection.execute(
            "insert into profiles (school, gender, profile_type) "
            "select 'S' || i %% 40, case i %% 2 when 0 then 'male' else 'female' end, 'user' "
            "from generate_series(1, %s) as i",
            (MANY,),
        )
        profile = connection.execute("select id from profiles limit 1").fetchone()
        assert profile is not None
        vector = str([0.5] * 512)

        def insert_one() -> None:
            connection.execute(ONE_FACE, (profile[0], vector))

        def insert_many() -> None:
            connection.execute(MANY_FACES.encode(), (MANY, 0))

        singles = sorted(_seconds(insert_one) for _ in range(SINGLE))
        begin = _wal(connection)
        bulk = sorted(_seconds(insert_many) for _ in range(ROUNDS))
        wal = (_wal(connection) - begin) / (ROUNDS * MANY)
        seen = sorted(_seconds(lambda: connection.execute(SEEN)) for _ in range(ROUNDS))
    half = ROUNDS // 2 + 1
    return {
        "one face, ms": 1000 * statistics.median(singles[: SINGLE // 2]),
        f"{MANY:,} faces in one statement, s": statistics.median(bulk[:half]),
        f"last_seen of {MANY:,} parents, s": statistics.median(seen[:half]),
        "WAL bytes a face": wal,
    }


def _attach_under_traffic(connection: psycopg.Connection) -> None:
    connection.execute("alter table faces disable trigger user")
    connection.execute("insert into profiles (school, gender, profile_type) values ('S', 'male', 'user')")
    connection.execute(
        "insert into faces (user_id, image_url) select profiles.id, 'u' || i "
        "from profiles, generate_series(1, 1000000) as i"
    )
    connection.execute("alter table faces enable trigger user")
    connection.execute("analyze faces")
    url = connection.info.dsn
    waits: list[tuple[float, float]] = []
    stop = threading.Event()

    def write() -> None:
        with connect(url) as app:
            while not stop.is_set():
                began = time.monotonic()
                app.execute("insert into faces (user_id, image_url) select id, 'new' from profiles limit 1")
                waits.append((began, time.monotonic() - began))

    threads = [threading.Thread(target=write) for _ in range(2)]
    for thread in threads:
        thread.start()
    time.sleep(3)
    began = time.monotonic()
    for _ in range(5):
        attach(connection, load(examples.FOLDER))
    ended = time.monotonic()
    stop.set()
    for thread in threads:
        thread.join()
    before = [seconds for at, seconds in waits if at < began]
    during = [seconds for at, seconds in waits if began <= at < ended]
    print(
        f"- five times in {ended - began:.2f} s; p99 of the app's inserts {1000 * _p99(before):.1f} ms before, "
        f"{1000 * _p99(during):.1f} ms meanwhile; worst {1000 * max(during):.0f} ms"
    )


def _storage(connection: psycopg.Connection, face_count: int) -> None:
    print(f"- mirrored and matched by one worker in {_match_faces(connection, face_count, MANY_FACES):.0f} s")
    for table in ("entities", "items", "embeddings", "matches", "jobs"):
        connection.execute(f"vacuum full matching_pipeline.{table}".encode())
    sizes: dict[str, int] = dict(connection.execute(STORAGE.encode()).fetchall())
    raw = 4 * 512 * face_count
    mirror = sizes["entities"] + sizes["items"] + sizes["embeddings"]
    print(f"- entities, items and embeddings: {mirror / 2**20:.0f} MB, {mirror / raw:.2f} times the raw vectors")
    print(f"- jobs {sizes['jobs'] / 2**20:.0f} MB")


def _truncation(connection: psycopg.Connection, face_count: int) -> None:
    _match_faces(connection, face_count, SIMILAR_FACES)
    for table in DERIVED:
        connection.execute(f"create table derived_{table} as select * from matching_pipeline.{table}".encode())
    # Postgres generates it again
    connection.execute("alter table derived_entities drop column dimensions")
    connection.execute("create table published as select * from public.matches")
    pairs = connection.execute("select count(*) from derived_matches").fetchone()
    truncated = _seconds(lambda: connection.execute("truncate faces"))
    left = connection.execute("select count(*) from matching_pipeline.entities where source = 'face'").fetchone()
    deleted = _deleted(connection)
    print(
        f"- with {pairs and pairs[0]:,} pairs {truncated:.1f} s, {truncated / deleted:.2f} times a plain DELETE of "
        f"these rows, {deleted:.1f} s; {left and left[0]} left"
    )


def _match_faces(connection: psycopg.Connection, face_count: int, statement: str) -> float:
    """Inserts faces by this statement; returns the seconds in which one worker mirrors and matches them."""
    connection.execute(
        "insert into profiles (school, gender, profile_type) "
        "select 'S' || i %% 100, case i / 100 %% 2 when 0 then 'male' else 'female' end, 'user' "
        "from generate_series(1, %s) as i",
        (face_count,),
    )
    # A worker claims whole schools together then, and computes the lists of each at once.
    for begin in range(0, face_count, MANY):
        connection.execute(statement.encode(), (MANY, begin))
    handler = MatchHandler("matches_face", attached(connection, "face"), ["face"])
    return _seconds(lambda: QueueWorker(connection.info.dsn, handler).run())


def _deleted(connection: psycopg.Connection) -> float:
    """Seconds of a DELETE of the rows that TRUNCATE had erased, which are put back for it, without our triggers."""
    with connection.transaction():
        connection.execute("set local session_replication_role = replica")
        for table in reversed(DERIVED):
            connection.execute(f"insert into matching_pipeline.{table} select * from derived_{table}".encode())
        connection.execute("insert into public.matches select * from published")
    # the tables were analyzed while they were empty
    connection.execute("analyze")
    with connection.transaction():
        # the foreign keys are checked as for any DELETE, and nothing is enqueued for those who lose pairs
        connection.execute("set local matching_pipeline.skip_matching = 'on'")
        return _seconds(
            lambda: [connection.execute(f"delete from matching_pipeline.{table}".encode()) for table in DERIVED]
        )


def _seconds(action: Callable[[], object]) -> float:
    began = time.monotonic()
    action()
    return time.monotonic() - began


def _wal(connection: psycopg.Connection) -> int:
    row = connection.execute("select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint").fetchone()
    assert row is not None
    return int(row[0])


def _p99(values: list[float]) -> float:
    return sorted(values)[int(0.99 * (len(values) - 1))]
