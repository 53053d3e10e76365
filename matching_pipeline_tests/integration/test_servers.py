"""More than one server: a backup that is restored, a standby that takes over; and a disk that is full."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest

from matching_pipeline.db.connections import Connection, connect
from matching_pipeline.db.migrations import migrate, require_migrated
from matching_pipeline.matches import matching, rebuilds
from matching_pipeline.matches.audit import audit
from matching_pipeline.matches.rebuilds import OnPart, Shard
from matching_pipeline.matches.writing import Figures
from matching_pipeline.sources.attach import attach, make_example_tables
from matching_pipeline.sources.attached import source_states
from matching_pipeline_tests.conftest import EXAMPLES
from matching_pipeline_tests.fixtures.servers import (
    another_server,
    client_program,
    copy_as_standby,
    crash,
    server_folder,
    small_disk,
)
from matching_pipeline_tests.integration.school import FACE, School


@pytest.fixture
def school(connection: Connection, database_url: str) -> School:
    """Two schools, with a couple each that matches."""
    school = School(connection, database_url)
    couples(school)
    school.process()
    return school


def couples(school: School) -> None:
    for name in ("UIT", "HUST"):
        school.face_of("male", school=name), school.face_of("female", school=name)


def test_a_dump_that_is_restored_on_another_server_is_whole_and_works_on(
    school: School, database_url: str, tmp_path: Path
) -> None:
    client_program("pg_dump", "-d", database_url, "-Fc", "-f", tmp_path / "dump")
    with server_folder() as folder, another_server(folder / "pg") as server:
        client_program("pg_restore", "-d", server.get_uri(), "--exit-on-error", tmp_path / "dump")
        with connect(server.get_uri()) as restored:
            require_migrated(restored)
            assert not audit(restored, EXAMPLES).faults
            assert not [problem for source in source_states(restored) for problem in source.problems]
            there = School(restored, server.get_uri())
            assert there.rows() == school.rows()
            # its triggers enqueue, and a worker goes on
            restored.execute("insert into faces (user_id, embedding) select user_id, embedding from faces")
            there.process()
            assert len(there.rows()) == 4 * len(school.rows())
            assert not audit(restored, EXAMPLES).faults


class Replicated:
    """A primary and a standby that has what the primary commits."""

    def __init__(self, stack: ExitStack) -> None:
        folder = stack.enter_context(server_folder())
        self._primary = stack.enter_context(another_server(folder / "a"))
        copy_as_standby(self._primary, folder / "b")
        self._standby = stack.enter_context(another_server(folder / "b"))
        self.url = (
            f"postgresql:///postgres?user=postgres&host={folder / 'a'},{folder / 'b'}&target_session_attrs=read-write"
        )
        with connect(self.url) as connection:
            connection.execute("alter system set synchronous_standby_names = '*'")
            connection.execute("select pg_reload_conf()")

    def fail_over(self) -> None:
        """The primary crashes; an administrator promotes the standby."""
        crash(self._primary)
        with psycopg.connect(self._standby.get_uri(), autocommit=True) as connection:
            connection.execute("select pg_promote()")


@pytest.fixture
def replicated() -> Iterator[Replicated]:
    with ExitStack() as stack:
        yield Replicated(stack)


def test_a_rebuild_goes_on_after_a_standby_took_over(replicated: Replicated, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matching, "SHARD_ENTITIES", 2)
    with connect(replicated.url) as connection:
        migrate(connection)
        make_example_tables(connection)
    with connect(replicated.url) as connection:
        attach(connection, EXAMPLES)
        school = School(connection, replicated.url)
        couples(school)
        school.process()
        expected = school.rows()
        connection.execute("truncate matching_pipeline.matches")
        connection.execute("delete from matches")
        first, second = rebuilds.begin(connection, FACE.name, FACE.plan)
        rebuilds.run(connection, first, FACE.rebuild_shard)

        def interrupted(connection: Connection, shard: Shard, on_part: OnPart) -> Figures:
            replicated.fail_over()
            return FACE.rebuild_shard(connection, shard, on_part)

        with pytest.raises(psycopg.OperationalError):
            rebuilds.run(connection, second, interrupted)
    # as Dagster's retry does
    with connect(replicated.url) as connection:
        rebuilds.run(connection, second, FACE.rebuild_shard)
        assert School(connection, replicated.url).rows() == expected
        assert not audit(connection, EXAMPLES).faults


def test_no_attempt_is_charged_while_the_servers_disk_is_full(connection: Connection, database_url: str) -> None:
    school = School(connection, database_url)
    couples(school)
    with small_disk(connection, "matching_pipeline", "matches") as full:
        with full:
            for _ in range(4):
                with pytest.raises(psycopg.errors.DiskFull, match="No space left on device"):
                    school.process()
            assert {status for _, status in school.jobs()} == {"pending"}
        school.process()
        assert len(school.rows()) == 2


def test_this_versions_worker_works_on_the_schema_of_the_next(connection: Connection, database_url: str) -> None:
    """A migration that only adds may come before the new code, while the workers of this one run."""
    for statement in (
        "alter table matching_pipeline.jobs add column priority integer not null default 0",
        "alter table matching_pipeline.matches add column reviewed_at timestamptz",
        "alter table matching_pipeline.entities add column note text",
        "alter table matching_pipeline.embeddings add column quality real",
        "create table matching_pipeline.reviews (id bigint generated always as identity primary key)",
        "create index on matching_pipeline.jobs (priority)",
        "insert into matching_pipeline.migrations (name) values ('0099_additions')",
    ):
        connection.execute(statement.encode())
    require_migrated(connection)
    school = School(connection, database_url)
    couples(school)
    school.process()
    assert len(school.rows()) == 2
    assert not audit(connection, EXAMPLES).faults
