"""The shapes that tables of apps have: keys of several columns, partitions, and pictures wherever they are kept."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from matching_pipeline.db.connections import Connection, connect
from matching_pipeline.errors import ConfigurationError
from matching_pipeline.sources.attach import attach
from matching_pipeline.sources.attached import source_states
from matching_pipeline.sources.declarations import Declarations, GeneratedImages, ImageEmbeddings
from matching_pipeline.sources.enqueue import enqueue_resync
from matching_pipeline.sources.source import Source
from matching_pipeline_tests.fixtures.notes import Notes, declared
from matching_pipeline_tests.fixtures.pictures import CountingAnalyzer, PictureServer, picture, work_images

KEY = ["shop", "number"]


@pytest.fixture
def notes(connection: Connection) -> Notes:
    return Notes(connection)


@pytest.fixture
def server() -> PictureServer:
    server = PictureServer()
    for color in ("teal", "red", "gold", "navy"):
        server.put(f"/{color}.png", picture(color))
    return server


def refusal(connection: Connection, declarations: Declarations) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        attach(connection, declarations)
    return str(caught.value).splitlines()


def test_a_key_of_several_columns_is_a_json_array(notes: Notes, database_url: str) -> None:
    notes.run("create table notes (shop text, number int, title text, primary key (number, shop))")
    notes.run("""insert into notes values ('a, "b"', 1, 'before'), ('c', 1, 'before')""")
    attach(notes.connection, declared(key=KEY))
    notes.work(database_url)
    assert notes.embedded() == [r'["a, \"b\"", "1"]', '["c", "1"]']
    notes.run("insert into notes values ('c', 2, 'Baker') on conflict (shop, number) do update set title = 'Cook'")
    notes.run("update notes set number = 3 where shop = 'c' and number = 1")
    notes.work(database_url)
    assert notes.embedded() == [r'["a, \"b\"", "1"]', '["c", "2"]', '["c", "3"]']
    # the comparison reads the table by its index, in parts
    enqueue_resync(notes.connection, "note")
    notes.run("update matching_pipeline.entities set properties = '{}' where key = '[\"c\", \"2\"]'")
    notes.work(database_url)
    notes.run("delete from notes where number = 3")
    assert notes.embedded() == [r'["a, \"b\"", "1"]', '["c", "2"]']
    notes.run("truncate notes")
    assert notes.embedded() == notes.mirrored() == []


def test_a_key_of_several_columns_is_compared_in_parts(notes: Notes, database_url: str) -> None:
    notes.run("create table notes (shop text, number int, title text, primary key (number, shop))")
    notes.run("insert into notes select 'shop ' || mod(n, 7), n / 7, 'Baker' from generate_series(1, 2100) as n")
    attach(notes.connection, declared(key=KEY))
    notes.work(database_url)
    assert len(notes.embedded()) == 2100
    notes.run("set session_replication_role = replica")
    notes.run("delete from notes where mod(number, 2) = 0")
    notes.run("set session_replication_role = origin")
    enqueue_resync(notes.connection, "note")
    notes.work(database_url)
    assert notes.embedded() == notes.run("select jsonb_build_array(shop, number::text)::text from notes order by 1")


def test_a_status_is_written_into_the_row_that_several_columns_name(notes: Notes) -> None:
    notes.run("create table rooms (shop text, number smallint, photo text, state text, primary key (shop, number))")
    room = {"name": "room", "table": "rooms", "key": KEY, "photo": "t.photo", "write_back": {"status": "state"}}
    made = GeneratedImages(name="made", source="room")
    attach(notes.connection, Declarations.of([Source.model_validate(room), made]))
    notes.run("insert into rooms values ('a', 1, 'x.png'), ('a', 2, 'x.png')")
    notes.run("""select matching_pipeline.request_pictures('made', 'room', 'complete_pack', '["a", "2"]', '{}')""")
    assert notes.run("select state from rooms order by number") == [None, "PENDING"]
    statuses = "select status from matching_pipeline.entity_statuses('room') order by key"
    assert notes.run(statuses) == [None, "PENDING"]


def test_a_key_of_several_columns_is_refused_where_it_names_no_single_row(notes: Notes) -> None:
    notes.run("create table notes (shop text, number int, aisle int, title text, primary key (shop, number))")
    assert refusal(notes.connection, declared(key=["shop", "aisle"])) == [
        "source note: key: shop, aisle of public.notes are not unique: they need a unique index, "
        "neither partial nor deferrable; the primary key is shop, number"
    ]
    attach(notes.connection, declared(key=["shop", "number", "aisle"]))


def test_a_row_whose_key_is_too_long_is_left_out(notes: Notes, database_url: str) -> None:
    notes.make("text")
    long = "select string_agg(md5(n::text), '') from generate_series(1, 80) as n"
    notes.run(f"insert into notes values (({long}), 'before'), ('a', 'before')")
    attach(notes.connection, declared())
    notes.work(database_url)
    notes.run(f"insert into notes values ('long ' || ({long}), 'Baker'), ('b', 'Baker')")
    notes.run("update notes set title = 'Cook'")
    notes.work(database_url)
    assert notes.embedded() == ["a", "b"]
    notes.run("delete from notes")
    assert notes.embedded() == []


def test_parents_and_pictures_may_have_keys_of_several_columns(
    notes: Notes, database_url: str, server: PictureServer
) -> None:
    notes.run("create table shops (country text, name text, is_open boolean, primary key (country, name))")
    notes.run("create table things (country text, shop text, number int, primary key (country, shop, number))")
    notes.run(
        "create table photos (country text, shop text, number int, place int, url text, "
        "primary key (place, country, shop, number))"
    )
    thing = Source.model_validate(
        {
            "name": "thing",
            "table": "things",
            "key": ["country", "shop", "number"],
            "parent": {"table": "shops", "key": ["country", "name"], "on": ["country", "shop"]},
            "when": "p.is_open",
            "pictures": {
                "table": "photos",
                "key": ["country", "shop", "number", "place"],
                "entity": ["country", "shop", "number"],
                "url": "url",
            },
        }
    )  # fmt: skip
    attach(notes.connection, Declarations.of([thing, images("thing")]))
    notes.run("insert into shops values ('de', 'Lamp', true), ('fr', 'Lamp', false)")
    notes.run("insert into things select country, name, 1 from shops")
    notes.run("insert into photos select country, shop, number, 7, %s from things", server.url("/teal.png"))
    assert seen(notes, database_url) == {('["de", "Lamp", "1", "7"]', "/teal.png")}
    notes.run("update shops set is_open = not is_open")
    assert seen(notes, database_url) == {('["fr", "Lamp", "1", "7"]', "/teal.png")}
    assert notes.mirrored() == []
    assert [problem for state in source_states(notes.connection) for problem in state.problems] == []


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"key": ["a"]}, "at least 2 items"),
        ({"parent": {"table": "x", "key": ["a", "b"], "on": "c"}}, "on and key must have as many columns"),
        ({"key": ["a", "b"], "text": (), "pictures": {"table": "x", "entity": "c", "url": "u"}}, "must have as many"),
        ({"text": (), "pictures": {"table": "x", "entity": "c"}}, "pictures have table, entity and url, or each"),
        ({"text": (), "pictures": {"table": "x", "each": "t.a"}}, "a table or each, not both"),
        ({"base_url": "https://x"}, "base_url is for pictures and photo"),
        ({"text": (), "photo": "t.p", "base_url": "x.org"}, "base_url"),
    ],
)
def test_what_does_not_fit_together_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Source.model_validate({"name": "note", "table": "notes", "text": ["t.title"], **fields})


def test_a_partitioned_table_is_attached_as_a_whole(notes: Notes, database_url: str) -> None:
    notes.run("create table notes (id int, shop text, title text, primary key (id, shop)) partition by list (shop)")
    notes.run("create table notes_a partition of notes for values in ('a')")
    notes.run("create table notes_rest partition of notes default")
    notes.run("insert into notes values (1, 'a', 'Baker')")
    attach(notes.connection, declared(key=["id", "shop"]))
    notes.run("insert into notes values (1, 'b', 'Cook'), (2, 'a', 'Nurse')")
    notes.work(database_url)
    assert notes.embedded() == ['["1", "a"]', '["1", "b"]', '["2", "a"]']
    notes.run("update notes set shop = 'c' where id = 2")
    notes.run("delete from notes where shop = 'b'")
    notes.work(database_url)
    assert notes.embedded() == ['["1", "a"]', '["2", "c"]']
    assert refusal(notes.connection, declared(table="notes_a", key=["id", "shop"])) == [
        "source note: table: public.notes_a is a partition, whose triggers see no statement that names the whole "
        "table: declare public.notes"
    ]


def test_a_foreign_table_is_refused_with_the_way_round(notes: Notes) -> None:
    try:
        notes.run("create extension postgres_fdw")
    except Exception:
        pytest.skip("the server has no postgres_fdw")
    notes.run("create server elsewhere foreign data wrapper postgres_fdw")
    notes.run("create foreign table notes (id bigint, title text) server elsewhere")
    assert refusal(notes.connection, declared()) == [
        "source note: table: public.notes is a foreign table, whose changes no trigger here sees: "
        "declare a copy of it in this database, such as a logical replica"
    ]


def test_an_expression_reads_no_third_table(notes: Notes) -> None:
    notes.make()
    notes.run("create table likes (note bigint)")
    notes.run("create view liked as select note from likes")
    for place in ("likes", "liked"):
        expression = f"(select count(*) from {place} where note = t.id) > 1"
        assert refusal(notes.connection, declared(when=expression)) == [
            f"source note: when: {expression} of public.notes: it reads public.{place}, whose changes no trigger "
            "sees: read the rows t and p only"
        ]


def test_the_row_of_an_undeclared_parent_is_named(notes: Notes) -> None:
    notes.make()
    assert refusal(notes.connection, declared(when="p.is_open")) == [
        'source note: when: p.is_open of public.notes: missing FROM-clause entry for table "p": '
        "the row p is that of `parent`"
    ]


def test_a_virtual_generated_column_is_watched_by_the_columns_that_it_is_made_of(
    notes: Notes, database_url: str
) -> None:
    if notes.connection.info.server_version < 180000:
        pytest.skip("virtual generated columns came with Postgres 18")
    notes.run(
        "create table notes (id bigint primary key, said text, state text, title text generated always as "
        "(upper(said)) virtual, shown boolean generated always as (state = 'out') virtual)"
    )
    attach(notes.connection, declared(when="t.shown", text="t.title"))
    notes.settle()
    notes.run("insert into notes values (1, 'baker', 'out'), (2, 'cook', 'draft')")
    notes.work(database_url)
    assert notes.embedded() == [1]
    notes.run("update notes set said = 'nurse' where id = 1")
    assert notes.pending() == ["1"]
    notes.run("update notes set state = 'out' where id = 2")
    notes.work(database_url)
    assert notes.embedded() == [1, 2]


def images(*sources: str) -> ImageEmbeddings:
    return ImageEmbeddings(name="image_ai", sources=sources)


def seen(notes: Notes, database_url: str) -> set[tuple[str, str]]:
    """Works off the queue of pictures. The key and the path of each that is analysed."""
    work_images(database_url, CountingAnalyzer())
    rows = notes.connection.execute(
        "select items.key, regexp_replace(input, '^http://[^/]+', '') from matching_pipeline.embeddings "
        "join matching_pipeline.items on items.source = embeddings.source and id = item"
    )
    return {(key, path) for key, path in rows.fetchall()}


def test_one_gallery_serves_two_sources(notes: Notes, database_url: str, server: PictureServer) -> None:
    notes.run("create table rooms (id bigint primary key)")
    notes.run("create table chairs (id bigint primary key, is_sold boolean default false)")
    notes.run(
        "create table gallery (id bigint primary key, kind text, of bigint, path text, "
        "is_public boolean default true)"
    )
    gallery = {"table": "gallery", "entity": "of", "url": "path"}
    conditions = {"room": "i.kind = 'room'", "chair": "i.kind = 'chair' and i.is_public and not t.is_sold"}
    sources = [
        Source.model_validate(
            {
                "name": name,
                "table": f"{name}s",
                "base_url": server.url("/"),
                "pictures": {**gallery, "when": condition},
            }
        )
        for name, condition in conditions.items()
    ]
    attach(notes.connection, Declarations.of([*sources, images("room", "chair")]))
    notes.settle()
    notes.run("insert into rooms values (1)")
    notes.run("insert into chairs values (1)")
    notes.run(
        "insert into gallery values "
        "(10, 'room', 1, 'teal.png'), (11, 'chair', 1, '/red.png'), (12, 'x', 1, 'gold.png')"
    )
    # the condition of the rooms is one that their trigger can test
    jobs = notes.run("select source || ' ' || key from matching_pipeline.jobs where kind = 'item' order by 1")
    assert [job for job in jobs if job.startswith("room")] == ["room 10"]
    assert seen(notes, database_url) == {("10", "/teal.png"), ("11", "/red.png")}
    notes.run("update gallery set kind = 'room' where id = 11")
    assert seen(notes, database_url) == {("10", "/teal.png"), ("11", "/red.png")}
    assert notes.run("select source from matching_pipeline.items where key = '11'") == ["room"]
    notes.run("update gallery set kind = 'chair' where id = 10")
    notes.run("update chairs set is_sold = true")
    assert seen(notes, database_url) == {("11", "/red.png")}
    notes.run("update chairs set is_sold = false")
    assert seen(notes, database_url) == {("11", "/red.png"), ("10", "/teal.png")}


def objects(paths: list[str]) -> list[dict[str, str]]:
    return [{"src": path, "no": "0"} for path in paths] + [{"src": "/gold.png", "no": "1"}]


URLS: dict[str, tuple[str, Callable[[list[str]], str], dict[str, str]]] = {
    "text[]": ("text[]", lambda paths: "{" + ",".join(paths) + "}", {}),
    "jsonb": ("jsonb", json.dumps, {}),
    "json of objects": ("json", lambda paths: json.dumps(objects(paths)[:-1]), {"url": "src"}),
    "jsonb with a condition": (
        "jsonb",
        lambda paths: json.dumps(objects(paths)),
        {"url": "i ->> 'src'", "when": "i ->> 'no' = '0'"},
    ),
}


@pytest.mark.parametrize("written", URLS)
def test_pictures_may_be_in_a_list_of_the_row(
    notes: Notes, database_url: str, server: PictureServer, written: str
) -> None:
    column, as_value, fields = URLS[written]
    notes.run(f"create table things (id text primary key, images {column})")
    thing = Source.model_validate(
        {"name": "thing", "table": "things", "base_url": server.url(""), "pictures": {"each": "t.images", **fields}}
    )
    attach(notes.connection, Declarations.of([thing, images("thing")]))
    notes.settle()

    def put(*paths: str) -> None:
        statement = "insert into things values ('a', %s) on conflict (id) do update set images = excluded.images"
        notes.run(statement.replace("%s", f"%s::{column}"), as_value(list(paths)))

    put("/teal.png", "/red.png", "/teal.png")
    found = seen(notes, database_url)
    assert {path for _, path in found} == {"/teal.png", "/red.png"}
    asked = sum(server.asked.values())
    put("/red.png", "/teal.png")
    assert seen(notes, database_url) == found
    assert sum(server.asked.values()) == asked
    put("/red.png", "/navy.png")
    assert {path for _, path in seen(notes, database_url)} == {"/red.png", "/navy.png"}
    notes.run("update things set images = null")
    assert seen(notes, database_url) == set()
    put("/red.png")
    seen(notes, database_url)
    notes.run("delete from things")
    assert notes.run("select count(*) from matching_pipeline.embeddings") == [0]


def test_a_list_of_another_type_is_refused(notes: Notes) -> None:
    notes.run("create table things (id text primary key, image text, sizes int[])")
    for expression, type in (("t.image", "text"), ("t.sizes", "integer[]")):
        thing = Source.model_validate({"name": "thing", "table": "things", "pictures": {"each": expression}})
        assert refusal(notes.connection, Declarations.of([thing, images("thing")])) == [
            f"source thing: pictures.each: {expression} of public.things: its value is a {type}, "
            "not a text[] or character varying[] or jsonb or json"
        ]


def test_a_photo_may_be_a_path_below_a_base_address(notes: Notes, database_url: str, server: PictureServer) -> None:
    notes.run("create table things (id int primary key, photo text)")
    thing = Source.model_validate(
        {"name": "thing", "table": "things", "photo": "t.photo", "base_url": server.url("/")}
    )
    attach(notes.connection, Declarations.of([thing, images("thing")]))
    notes.run(
        "insert into things values (1, 'red.png'), (2, '/teal.png'), (3, %s), (4, null)", server.url("/gold.png")
    )
    assert seen(notes, database_url) == {("1", "/red.png"), ("2", "/teal.png"), ("3", "/gold.png")}


@pytest.mark.parametrize("type", ["vector", "halfvec(3)", "real[]", "double precision[]", "float4[]", "sparsevec(3)"])
def test_vectors_may_have_any_of_these_types(connection: Connection, type: str) -> None:
    connection.execute(f"create table notes (id int primary key, v {type})".encode())
    attach(connection, Declarations(sources=(Source(name="note", table="public.notes", vector="v"),)))
    value = "{1:1,3:2}/3" if type.startswith("sparse") else "[1,0,2]" if "vec" in type else "{1,0,2}"
    connection.execute("insert into notes values (1, %s), (2, null)", (value,))
    rows = connection.execute(
        "select applies, embedding::text from matching_pipeline.read_source('note', 'entity', '{1,2}')"
    )
    assert sorted(rows.fetchall()) == [(False, None), (True, "[1,0,2]")]


def test_a_session_of_another_search_path_attaches(notes: Notes, database_url: str) -> None:
    notes.make()
    with connect(database_url) as connection:
        connection.execute("set search_path = ''")
        attach(connection, declared(table="public.notes"))
    assert notes.triggers() != {}
