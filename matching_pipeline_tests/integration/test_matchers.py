"""Each example of docs/matchers.md, against lists by brute force over the app's rows."""

import random
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from matching_pipeline.db.connections import Connection
from matching_pipeline.matches.matching import attached
from matching_pipeline.sources.attach import attach
from matching_pipeline.sources.documents import load
from matching_pipeline_tests.integration.matchmaking import (
    Thing,
    brute_force,
    process,
    register_models,
    same_rows,
    stored,
)

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "matchers.md"
EXAMPLES = dict(
    re.findall(r"^## ([^\n]+)\n(?:(?!^## ).)*?```yaml\n(.*?)```", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)
)
DIMENSIONS = 4
ROUNDS, CHANGES = 6, 15

TABLES = """
create table resumes (id bigint primary key, user_id text, headline text, body text);
create table items (id integer primary key, seller_id text, campus text);
create table item_photos (id integer primary key, item_id integer references items on delete cascade, url text);
create table requests (id integer primary key, campus text, photo_url text);
create table blocked_users (blocker_id uuid, blocked_id uuid);
drop table if exists faces cascade;
create table faces (id uuid primary key, user_id uuid references profiles on delete cascade, embedding vector(4));
"""


class Draw:
    """Draws values of which many are equal, so that ties and scores at the threshold are common."""

    def __init__(self) -> None:
        self.random = random.Random(1)

    def one(self, *values: Any) -> Any:
        return self.random.choice(values)

    def vector(self) -> str:
        return ",".join(str(self.one(0, 0, 1, 1, 0.5)) for _ in range(DIMENSIONS - 1)) + ",0.25"

    def given(self, words: bool = False) -> str:
        colors = self.random.sample(["red", "blue"], self.one(0, 1, 2) if words else 0)
        return f"given:{self.vector()};{','.join(colors)}"

    def uuid(self) -> str:
        return f"00000000-0000-0000-0000-{self.random.randint(1, 12):012}"


def items_of(rows: list[tuple[Any, ...]]) -> Mapping[str, Any]:
    """By key of an item, its vector and words, of a URL or a text."""
    items = {}
    for key, given in rows:
        vector, words = given.removeprefix("given:").split(";")
        items[str(key)] = [float(value) for value in vector.split(",")], frozenset(filter(None, words.split(",")))
    return items


class App:
    """Changes the app's rows at random, and says what they are."""

    def __init__(self, connection: Connection) -> None:
        self.connection, self.draw = connection, Draw()

    def run(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        cursor = self.connection.execute(statement.encode(), parameters)
        return cursor.fetchall() if cursor.description else []

    def change_postings(self) -> None:
        draw, key = self.draw, self.draw.uuid()
        posting = "insert into jobs (id, description, is_active) values (%s, %s, %s) on conflict (id) do update set "
        resume = "insert into resumes (id, body) values (%s, %s) on conflict (id) do update set body = excluded.body"
        draw.one(
            lambda: self.run(
                posting + "description = excluded.description, is_active = excluded.is_active",
                *(key, draw.given(), draw.one(True, True, True, False)),
            ),
            lambda: self.run(resume, draw.random.randint(1, 12), draw.given()),
            lambda: self.run(resume, draw.random.randint(1, 12), draw.given()),
            lambda: self.run("delete from jobs where id = %s", key),
            lambda: self.run("delete from resumes where id = %s", draw.random.randint(1, 12)),
        )()

    def change_items(self) -> None:
        draw, key = self.draw, self.draw.random.randint(1, 14)
        item = (
            "insert into items (id, seller_id, campus) values (%s, %s, %s) on conflict (id) do update set "
            "seller_id = excluded.seller_id, campus = excluded.campus"
        )
        photo = (
            "insert into item_photos (id, item_id, url) select %s, id, %s from items where id = %s "
            "on conflict (id) do update set url = excluded.url, item_id = excluded.item_id"
        )
        request = (
            "insert into requests (id, campus, photo_url) values (%s, %s, %s) on conflict (id) do update set "
            "campus = excluded.campus, photo_url = excluded.photo_url"
        )
        draw.one(
            *[lambda: self.run(item, key, draw.one("Ann", "Ben", "Cid", None), draw.one("north", "south", None))] * 2,
            *[lambda: self.run(photo, draw.random.randint(1, 30), draw.given(words=True), key)] * 6,
            lambda: self.run(request, key, draw.one("north", "south", None), draw.given()),
            lambda: self.run("delete from item_photos where id = %s", draw.random.randint(1, 30)),
            lambda: self.run(f"delete from {draw.one('items', 'requests')} where id = %s", key),
        )()

    def change_faces(self) -> None:
        draw, user, other = self.draw, self.draw.uuid(), self.draw.uuid()
        profile = (
            "insert into profiles (id, school, gender) values (%s, %s, %s) on conflict (id) do update set "
            "school = excluded.school, gender = excluded.gender"
        )
        face = (
            "insert into faces (id, user_id, embedding) select %s, id, %s::vector from profiles where id = %s "
            "on conflict (id) do update set embedding = excluded.embedding"
        )
        draw.one(
            *[lambda: self.run(face, draw.uuid(), f"[{draw.vector()}]", user)] * 6,
            *[lambda: self.run(profile, user, draw.one("UIT", "HUST"), draw.one("male", "female"))] * 3,
            lambda: self.run(profile, user, draw.one("UIT", None), draw.one("male", None)),
            lambda: self.run("insert into blocked_users values (%s, %s)", user, other),
            lambda: self.run("insert into blocked_users select user_id, %s from faces limit 1", user),
            lambda: self.run("update blocked_users set blocked_id = %s where blocker_id = %s", other, user),
            lambda: self.run("delete from blocked_users where blocker_id = %s", user),
            lambda: self.run("delete from profiles where id = %s", user),
        )()

    def postings(self) -> list[Thing]:
        rows = self.run("select id, description from jobs where is_active")
        return [Thing(str(id), items_of([(id, text)])) for id, text in rows]

    def resumes(self) -> list[Thing]:
        return [Thing(str(id), items_of([(id, text)])) for id, text in self.run("select id, body from resumes")]

    def items(self) -> list[Thing]:
        things = []
        for id, seller, campus in self.run("select id, seller_id, campus from items"):
            photos = self.run("select id, url from item_photos where item_id = %s", id)
            things.append(Thing(str(id), items_of(photos), {"seller": seller, "campus": campus}))
        return things

    def requests(self) -> list[Thing]:
        rows = self.run("select id, photo_url, campus from requests")
        return [Thing(str(id), items_of([(id, url)]), {"campus": campus}) for id, url, campus in rows]

    def faces(self) -> list[Thing]:
        rows = self.run(
            "select faces.id::text, embedding::real[], user_id, school, gender from faces "
            "join profiles on profiles.id = user_id where profile_type = 'user'"
        )
        return [
            Thing(id, {id: (vector, frozenset())}, {"user": user, "school": school, "gender": gender})
            for id, vector, user, school, gender in rows
        ]

    def may_match(self, one: Thing, other: Thing) -> bool:
        """The rule of the faces."""
        facts = one.facts, other.facts
        blocked = self.run(
            "select 1 from blocked_users where (blocker_id, blocked_id) in ((%s, %s), (%s, %s))",
            *(facts[0]["user"], facts[1]["user"], facts[1]["user"], facts[0]["user"]),
        )
        same_school = facts[0]["school"] is not None and facts[0]["school"] == facts[1]["school"]
        return same_school and {facts[0]["gender"], facts[1]["gender"]} == {"male", "female"} and not blocked


def of_other_sellers(one: Thing, other: Thing) -> bool:
    sellers = {one.facts["seller"], other.facts["seller"]}
    return len(sellers) == 2 and None not in sellers


def of_one_campus(one: Thing, other: Thing) -> bool:
    return one.facts["campus"] is not None and one.facts["campus"] == other.facts["campus"]


Side = Callable[[App], list[Thing]]
MayMatch = Callable[[App], Callable[[Thing, Thing], bool]]
CASES: dict[str, tuple[Callable[[App], None], Side, Side, MayMatch]] = {
    "Postings with résumés": (App.change_postings, App.postings, App.resumes, lambda app: lambda one, other: True),
    "Similar products": (App.change_items, App.items, App.items, lambda app: of_other_sellers),
    "Faces with blocked users": (App.change_faces, App.faces, App.faces, lambda app: app.may_match),
    "Products of one campus": (App.change_items, App.requests, App.items, lambda app: of_one_campus),
}


def test_every_example_has_a_case() -> None:
    assert EXAMPLES.keys() == CASES.keys()


@pytest.mark.parametrize("example", CASES)
def test_lists_are_those_of_brute_force(
    connection: Connection, database_url: str, tmp_path: Path, example: str
) -> None:
    change, left, right, may_match = CASES[example]
    connection.execute(TABLES.encode())
    (tmp_path / "defs.yaml").write_text(EXAMPLES[example])
    declarations = load(tmp_path)
    # the matcher `face` is attached already, with other settings
    connection.execute("delete from matching_pipeline.matchers")
    attach(connection, declarations)
    connection.execute("delete from matching_pipeline.jobs")
    register_models(connection, DIMENSIONS)
    app, (matcher,) = App(connection), declarations.matchers
    seen = 0
    for number in range(ROUNDS):
        for _ in range(CHANGES if number else 5 * CHANGES):
            change(app)
        process(database_url, declarations)
        expected = brute_force(matcher, left(app), right(app), may_match(app))
        assert same_rows(stored(connection, matcher), expected)
        seen += len(expected)
        figures = attached(connection, matcher.name).rebuild(connection)
        assert (figures.added, figures.changed, figures.removed) == (0, 0, 0)
    connection.execute("set matching_pipeline.skip_matching = 'on'")
    connection.execute("delete from matching_pipeline.matches")
    attached(connection, matcher.name).rebuild(connection)
    assert same_rows(stored(connection, matcher), expected)
    assert seen > 5 * ROUNDS
