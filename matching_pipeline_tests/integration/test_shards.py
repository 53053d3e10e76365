"""Shards of a rebuild run anywhere and in any order. Workers get their turn, and the newest rebuild wins."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest

from matching_pipeline.db.connections import Connection, connect
from matching_pipeline.errors import RebuildSuperseded
from matching_pipeline.handlers.matches import MatchHandler
from matching_pipeline.matches import matching, rebuilds
from matching_pipeline.matches.locks import ListsLock
from matching_pipeline.matches.rebuilds import OnPart, Part, Shard
from matching_pipeline.matches.writing import Figures
from matching_pipeline.models import activation
from matching_pipeline.queues.worker import QueueWorker
from matching_pipeline_tests.integration.marketplace import PROJECT, PROJECT_RULE, Marketplace
from matching_pipeline_tests.integration.school import FACE, School


@pytest.fixture
def market(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> Marketplace:
    """Four projects in two shards, and three products that match all of them."""
    monkeypatch.setattr(matching, "SHARD_ENTITIES", 2)
    market = Marketplace(connection)
    for n in range(4):
        market.add_image("project", market.add("project"), (1, n / 5, 0))
    for n in range(3):
        market.add_image("product", market.add("product"), (1, 0, n / 3))
    connection.execute("delete from matching_pipeline.jobs")
    return market


def process(database_url: str, connection: Connection) -> None:
    connection.execute("update matching_pipeline.jobs set run_at = now() where status = 'pending'")
    QueueWorker(database_url, MatchHandler(PROJECT_RULE.queue, PROJECT)).run()


def begin(connection: Connection) -> list[Shard]:
    return rebuilds.begin(connection, PROJECT.name, PROJECT.plan)


def run(connection: Connection, shard: Shard) -> Figures:
    return rebuilds.run(connection, shard, PROJECT.rebuild_shard)


def test_every_project_is_in_one_shard_also_after_the_plan(connection: Connection, market: Marketplace) -> None:
    shards = begin(connection)
    assert [shard.entities for shard in shards] == [2, 2]
    for _ in range(2):
        market.add_image("project", market.add("project"), (1, 0, 0))
    lowest = UUID(int=0)
    connection.execute("insert into listings (id, type) values (%s, 'project')", (lowest,))
    connection.execute("insert into listing_images (id, listing_id) values (%(id)s, %(id)s)", {"id": lowest})
    market.embed("project", lowest, (1, 0, 0))
    for shard in random.sample(shards, 2):
        run(connection, shard)
    assert market.matches() == market.expected_matches()
    assert len(market.matches()) == 21


def test_without_entities_there_is_one_shard(connection: Connection) -> None:
    (projects,), (faces,) = begin(connection), rebuilds.begin(connection, FACE.name, FACE.plan)
    assert (projects.parts, faces.parts) == ([Part(None)], [Part(None)])


def test_schools_fill_a_shard_and_are_never_split(
    connection: Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matching, "SHARD_ENTITIES", 4)
    school = School(connection, database_url)
    for name, faces in (("A", 2), ("B", 1), ("C", 6), ("D", 1)):
        for n in range(faces):
            school.face_of("male" if n % 2 else "female", school=name)
    school.process()
    school.run("truncate matching_pipeline.matches")
    shards = rebuilds.begin(connection, FACE.name, FACE.plan)
    first, *others = [Part({"school": name}) for name in "ABCD"]
    assert [(shard.parts, shard.entities) for shard in shards] == [
        ([Part(None), first, *others[:2]], 9),
        (others[2:], 1),
    ]
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda shard: run_alone(database_url, shard), shards))
    assert school.rows() == school.expected_rows()


def run_alone(database_url: str, shard: Shard) -> Figures:
    matcher = FACE if shard.matcher == FACE.name else PROJECT
    with connect(database_url) as own:
        return rebuilds.run(own, shard, matcher.rebuild_shard)


def test_a_superseded_rebuild_writes_nothing_more(connection: Connection, market: Marketplace) -> None:
    first, second = begin(connection)
    run(connection, first)
    newer = begin(connection)
    written = market.matches()
    with pytest.raises(
        RebuildSuperseded, match=f"rebuild {first.rebuild} .* superseded by rebuild {newer[0].rebuild}"
    ):
        run(connection, second)
    assert market.matches() == written
    for shard in newer:
        run(connection, shard)
    assert market.matches() == market.expected_matches()


def test_a_rebuild_of_another_matcher_supersedes_none(connection: Connection, market: Marketplace) -> None:
    shards = begin(connection)
    rebuilds.begin(connection, FACE.name, FACE.plan)
    assert sum(run(connection, shard).added for shard in shards) == 12


def test_a_shard_of_a_forgotten_rebuild_raises(connection: Connection) -> None:
    with pytest.raises(RebuildSuperseded, match="forgotten"):
        rebuilds.shard_at(connection, 7, 1)


class Pausing:
    """Writes the shard, but returns only when it is told to."""

    def __init__(self) -> None:
        self.reached, self.go_on = threading.Event(), threading.Event()

    def __call__(self, connection: Connection, shard: Shard, on_part: OnPart) -> Figures:
        figures = PROJECT.rebuild_shard(connection, shard, on_part)
        self.reached.set()
        assert self.go_on.wait(20)
        return figures


def test_a_rebuild_begins_when_the_shards_of_the_one_before_are_done(
    connection: Connection, database_url: str, market: Marketplace
) -> None:
    shard, _ = begin(connection)
    pausing = Pausing()
    with ThreadPoolExecutor() as pool, connect(database_url) as one, connect(database_url) as other:
        running = pool.submit(rebuilds.run, one, shard, pausing)
        assert pausing.reached.wait(10)
        beginning = pool.submit(begin, other)
        time.sleep(0.3)
        assert not beginning.done()
        pausing.go_on.set()
        assert running.result(timeout=10).added == 6
        assert beginning.result(timeout=10)[0].rebuild > shard.rebuild


def test_shards_run_at_once_and_a_worker_that_waits_comes_before_the_next_shard(
    connection: Connection, database_url: str, market: Marketplace
) -> None:
    first, second = Pausing(), Pausing()
    shards = begin(connection)
    with ThreadPoolExecutor() as pool, connect(database_url) as one, connect(database_url) as two:
        running = [
            pool.submit(rebuilds.run, one, shards[0], first),
            pool.submit(rebuilds.run, two, shards[1], second),
        ]
        assert first.reached.wait(10)
        assert second.reached.wait(10)
        market.embed("product", market.add_image("product", market.add("product"), (0, 1, 0)), (1, 1, 1))
        working = pool.submit(process, database_url, connection)
        first.go_on.set()
        running[0].result(timeout=10)
        with connect(database_url) as onlooker:
            shut = "select pg_try_advisory_xact_lock(hashtext('matching_pipeline.matches_turnstile.' || %s))"
            while onlooker.execute(shut, [PROJECT.name]).fetchone() == (True,):
                time.sleep(0.05)  # the worker has not shut the turnstile yet
        again = pool.submit(run_alone, database_url, shards[0])
        time.sleep(0.3)
        assert not working.done()
        assert not again.done()
        second.go_on.set()
        working.result(timeout=10)
        assert running[1].result(timeout=10).added == 6
        assert again.result(timeout=10).added == 0
    assert market.matches() == market.expected_matches()


CHANGES: dict[str, Callable[[Marketplace], object]] = {
    "a product": lambda market: market.add_image("product", market.add("product"), (1, 0.3, 0.3)),
    "a project": lambda market: market.add_image("project", market.add("project"), (1, 0.3, 0.3)),
    "a deletion": lambda market: market.connection.execute(
        "delete from products where id in (select id from products limit 1)"
    ),
    "the limit": lambda market: market.connection.execute("update matching_pipeline.match_settings set top = 2"),
    "the threshold": lambda market: market.connection.execute(
        "update matching_pipeline.match_settings set threshold = 0.75"
    ),
    "the model": lambda market: another_model(market),
}


def another_model(market: Marketplace) -> None:
    market.connection.execute("insert into matching_pipeline.embedding_models values ('other', 'image', 3, 'shadow')")
    market.connection.execute(
        "insert into matching_pipeline.embeddings (source, item, model, dimensions, embedding, attributes, input) "
        "select source, item, 'other', dimensions, l2_normalize(embedding + '[0, 1, 0]'), attributes, input "
        "from matching_pipeline.embeddings"
    )
    activation.activate(market.connection, "other")


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("processed_between", [True, False])
def test_a_change_between_two_shards_is_in_the_lists_once_the_queue_is_empty(
    connection: Connection, database_url: str, market: Marketplace, change: str, processed_between: bool
) -> None:
    first, second = begin(connection)
    run(connection, first)
    CHANGES[change](market)
    if processed_between:
        process(database_url, connection)
    run(connection, second)
    process(database_url, connection)
    rows = market.matches()
    assert PROJECT.rebuild(connection).unchanged == len(rows) > 0
    if change != "the model":
        assert rows == market.expected_matches()


def hang(database_url: str) -> None:
    """Runs a shard that never ends."""

    def publish(connection: Connection, shard: Shard, on_part: OnPart) -> Figures:
        print("hanging", flush=True)
        time.sleep(60)
        return Figures()

    with connect(database_url) as connection:
        rebuilds.run(connection, begin(connection)[0], publish)


RUN_AND_HANG = "import sys; from matching_pipeline_tests.integration.test_shards import hang; hang(sys.argv[1])"


@pytest.fixture
def hanging_run(database_url: str, market: Marketplace) -> Iterator[subprocess.Popen[str]]:
    """A process whose shard never ends."""
    command = [sys.executable, "-c", RUN_AND_HANG, database_url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "hanging\n"
        yield process
        process.kill()


def test_a_killed_run_keeps_no_lock(
    connection: Connection, market: Marketplace, database_url: str, hanging_run: subprocess.Popen[str]
) -> None:
    os.kill(hanging_run.pid, signal.SIGKILL)
    market.add_image("product", market.add("product"), (1, 1, 0))
    began = time.monotonic()
    process(database_url, connection)
    assert PROJECT.rebuild(connection).lists == 4
    assert time.monotonic() - began < 10
    assert market.matches() == market.expected_matches()


def test_a_shard_that_fails_releases_the_lists(connection: Connection, database_url: str) -> None:
    with pytest.raises(ZeroDivisionError), ListsLock(connection, PROJECT.name).shared():
        raise ZeroDivisionError
    with connect(database_url) as other, other.transaction():
        ListsLock(other, PROJECT.name).take()


COUNT_WRITERS = """
create table writers (pid integer primary key);
create function count_writer() returns trigger language plpgsql as $$
begin
    insert into writers values (pg_backend_pid()) on conflict do nothing;
    return null;
end
$$;
create trigger count_writer after insert on matching_pipeline.matches
for each statement execute function count_writer();
"""


@pytest.fixture
def count_writers(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Returns the number of sessions that wrote lists. Each list is written in a transaction of its own."""
    monkeypatch.setattr(matching, "LISTS_AT_ONCE", 1)
    connection.execute(COUNT_WRITERS.encode())
    return lambda: len(connection.execute("select pid from writers").fetchall())


def test_two_sessions_write_a_shard(
    connection: Connection, market: Marketplace, count_writers: Callable[[], int]
) -> None:
    for written_by, shard in zip((2, 3), begin(connection), strict=True):
        run(connection, shard)
        assert count_writers() == written_by
    assert market.matches() == market.expected_matches()


def test_one_session_writes_a_shard_where_a_writer_waits_for_the_lists(
    connection: Connection, database_url: str, market: Marketplace, count_writers: Callable[[], int]
) -> None:
    def write_while_another_rebuild_waits(connection: Connection, shard: Shard, on_part: OnPart) -> Figures:
        waiting = pool.submit(begin, other)
        while not connection.execute("select from pg_locks where locktype = 'advisory' and not granted").fetchall():
            assert not waiting.done()
        return PROJECT.rebuild_shard(connection, shard, on_part)

    with connect(database_url) as other, ThreadPoolExecutor() as pool:
        rebuilds.run(connection, begin(connection)[0], write_while_another_rebuild_waits)
    assert count_writers() == 1
    assert len(market.matches()) == 6


def test_one_session_writes_a_shard_where_a_second_is_refused(
    connection: Connection, server_url: str, market: Marketplace, count_writers: Callable[[], int]
) -> None:
    with connect(server_url % "postgres") as elsewhere:
        elsewhere.execute(f"alter database {connection.info.dbname} allow_connections false".encode())
    PROJECT.rebuild(connection)
    assert market.matches() == market.expected_matches()
    assert count_writers() == 1
