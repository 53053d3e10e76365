"""New pairs on the channel `matches`, in the publication of Supabase Realtime, and by `matching-pipeline watch`."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from matching_pipeline.db.connections import Connection, connect
from matching_pipeline.db.migrations import migrate
from matching_pipeline.matches.feed import Announcement, announcements
from matching_pipeline_tests.fixtures.app import MatchedPair
from matching_pipeline_tests.fixtures.command import COMMAND, run_command
from matching_pipeline_tests.fixtures.notices import payloads
from matching_pipeline_tests.integration.school import School


@pytest.fixture
def listener(database_url: str) -> Iterator[Connection]:
    with connect(database_url) as connection:
        connection.execute("listen matches")
        yield connection


def heard(listener: Connection) -> list[dict[str, Any]]:
    """What is announced of all that has committed."""
    messages = payloads(listener, "matches")
    assert all(len(message.encode()) < 8000 for message in messages)
    return [json.loads(message) for message in messages]


def many_faces(school: School, count: int) -> tuple[UUID, list[UUID]]:
    """A face whose id is the lowest, and so many others."""
    one, *others = (school.new_id() for _ in range(count + 1))
    return one, others


def add_pairs(school: School, one: UUID, others: list[UUID]) -> None:
    """As a worker would that has mirrored the faces."""
    school.run(
        """insert into matching_pipeline.matches
            (matcher, left_id, right_id, left_key, right_key, left_item, right_item, similarity, left_rank, model)
        select 'face', one, other, one::text, other::text, one, other, 0.9, 1, 'face'
        from (values (%s::uuid)) as given (one) cross join unnest(%s::uuid[]) as other
        on conflict (left_id, right_id, matcher) do update set similarity = 0.8""",
        *(one, others),
    )


def test_a_processed_upload_is_announced_in_a_second_in_one_message(school: School, listener: Connection) -> None:
    for _ in range(3):
        school.face_of("male")
    school.face_of("female")
    school.process()
    (message,) = heard(listener)
    assert message.keys() == {"matcher", "pairs", "ids"}
    assert (message["matcher"], message["pairs"]) == ("face", 3)
    assert {str(id) for id in school.run("select id from matching_pipeline.matches")} == set(message["ids"])


def test_it_is_heard_within_a_second_of_the_commit(connection: Connection, listener: Connection) -> None:
    took = []
    for _ in range(3):  # one of them may meet a machine that does something else
        MatchedPair(connection)
        began = time.monotonic()
        assert list(listener.notifies(timeout=30, stop_after=1))
        took.append(time.monotonic() - began)
    assert min(took) < 1


def test_nothing_in_a_message_identifies_a_person(school: School, listener: Connection) -> None:
    school.face_of("male"), school.face_of("female")
    school.process()
    said = json.dumps(heard(listener))
    people = school.run("select id from profiles union select id from faces")
    assert len(people) == 4
    assert not [id for id in people if str(id) in said]


def test_a_statement_with_any_number_of_rows_is_one_short_message(school: School, listener: Connection) -> None:
    one, others = many_faces(school, 5000)
    add_pairs(school, one, others)
    (message,) = heard(listener)
    assert message["pairs"] == 5000
    assert len(message["ids"]) == 100


def test_existing_pairs_are_not_announced_again(school: School, listener: Connection) -> None:
    one, others = many_faces(school, 20)
    for count in (10, 10, 15):
        add_pairs(school, one, others[:count])
    school.run("update matching_pipeline.matches set similarity = 0.7")
    assert [message["pairs"] for message in heard(listener)] == [10, 5]


def test_equal_statements_of_one_transaction_are_each_announced(school: School, listener: Connection) -> None:
    one, others = many_faces(school, 600)
    with school.connection.transaction():
        for count in (200, 400, 600):
            add_pairs(school, one, others[:count])
    assert [message["pairs"] for message in heard(listener)] == [200, 200, 200]


def test_what_is_rolled_back_is_not_announced(school: School, listener: Connection) -> None:
    one, others = many_faces(school, 1)
    with school.connection.transaction(force_rollback=True):
        add_pairs(school, one, others)
    assert heard(listener) == []


def test_what_others_say_on_the_channel_is_passed_over(school: School, database_url: str) -> None:
    one, others = many_faces(school, 1)
    with connect(database_url) as connection:
        feed = announcements(connection, timeout=3)
        for payload in ("", "hello", "{}", "[1]", '{"matcher": "face", "pairs": 1, "ids": ["x"]}'):
            school.run("select pg_notify('matches', %s)", payload)
        add_pairs(school, one, others)
        (told,) = feed
        assert (told.matcher, told.count, [pair.left_key for pair in told.best]) == ("face", 1, [str(one)])


def test_a_pair_that_is_gone_when_it_is_told_is_counted_only(school: School, database_url: str) -> None:
    one, others = many_faces(school, 1)
    with connect(database_url) as connection:
        feed = announcements(connection, timeout=3)
        add_pairs(school, one, others)
        school.run("delete from matching_pipeline.matches")
        assert list(feed) == [Announcement("face", 1, [])]


class Watch:
    """`matching-pipeline watch` as a process of its own."""

    def __init__(self, process: "subprocess.Popen[str]", output: Path) -> None:
        self.process = process
        self._output = output

    def lines(self, count: int) -> list[list[str]]:
        """What it printed, once there are so many lines."""
        deadline = time.monotonic() + 30
        while len(lines := self._output.read_text().splitlines()) < count:
            assert time.monotonic() < deadline, lines
            time.sleep(0.02)
        return [line.split("\t") for line in lines]


@contextmanager
def watching(database_url: str, folder: Path) -> Iterator[Watch]:
    output = folder / "output"
    with output.open("w") as stdout, connect(database_url) as connection:
        process = subprocess.Popen(
            [COMMAND, "watch"],
            cwd=folder,
            env={**os.environ, "DATABASE_URL": database_url},
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stderr is not None
            assert process.stderr.readline() == "waiting for new matches\n"
            listening = "select from pg_stat_activity where datname = current_database() and query = 'listen matches'"
            deadline = time.monotonic() + 30
            while connection.execute(listening.encode()).fetchone() is None:
                assert time.monotonic() < deadline
                time.sleep(0.02)
            yield Watch(process, output)
        finally:
            process.kill()
            process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_watch_prints_a_line_a_pair_and_ends_when_told(
    school: School, database_url: str, tmp_path: Path, number: signal.Signals
) -> None:
    one, *others = school.face_of("male"), school.face_of("female"), school.face_of("female", (1, 1))
    with watching(database_url, tmp_path) as watch:
        school.process()
        expected = [["face", "1.000", str(one), str(others[0])], ["face", "0.707", str(one), str(others[1])]]
        assert watch.lines(2) == expected
        watch.process.send_signal(number)
        assert watch.process.wait(30) == 0
        assert watch.process.stderr is not None
        assert watch.process.stderr.read() == ""
        assert watch.lines(2) == expected


def test_watch_loses_none_of_many_announcements_at_once(school: School, database_url: str, tmp_path: Path) -> None:
    one, others = many_faces(school, 700)
    with watching(database_url, tmp_path) as watch:
        for other in others[:300]:
            add_pairs(school, one, [other])
        with school.connection.transaction():
            for other in others[300:550]:
                add_pairs(school, one, [other])
        add_pairs(school, one, others[550:])
        lines = watch.lines(651)
    assert lines[-1] == ["face", "50 more pairs"]
    told = [UUID(line[3]) for line in lines[:-1]]
    assert told[:550] == others[:550]
    assert set(told[550:]) < set(others[550:])
    assert len(set(told)) == len(told) == 650


@pytest.fixture
def app_database(new_database: Callable[..., str]) -> Iterator[Connection]:
    with connect(new_database()) as connection:
        yield connection


def published(connection: Connection) -> list[tuple[str, str]]:
    return connection.execute(
        "select schemaname, tablename from pg_publication_tables where tablename = 'matches'"
    ).fetchall()


@pytest.mark.parametrize("tables", ["", "for table other", "for all tables", "for tables in schema public"])
def test_matches_joins_supabase_realtime_once(app_database: Connection, tables: str) -> None:
    app_database.execute("create table other ()")
    app_database.execute(f"create publication supabase_realtime {tables}".encode())
    for _ in range(2):
        migrate(app_database)
        assert published(app_database) == [("matching_pipeline", "matches")]


def test_where_there_is_no_supabase_realtime_nothing_is_published(app_database: Connection) -> None:
    app_database.execute("create publication other")
    migrate(app_database)
    assert published(app_database) == []


def test_a_publication_of_somebody_elses_is_a_warning(new_database: Callable[..., str], tmp_path: Path) -> None:
    url, role = new_database(), f"owner_{uuid4().hex}"
    with connect(url) as connection:
        connection.execute("create extension vector; create publication supabase_realtime")
        connection.execute(f"create role {role} login; grant all on schema public to {role}".encode())
        connection.execute(f"grant create on database {connection.info.dbname} to {role}".encode())
        settings = {"DATABASE_URL": f"{url}&user={role}", "DEFINITIONS_DIR": str(tmp_path)}
        done = run_command(tmp_path, "migrate", **settings)
        assert done.returncode == 0, done.stderr
        assert "warning: matches is not published by supabase_realtime" in done.stderr
        assert published(connection) == []
