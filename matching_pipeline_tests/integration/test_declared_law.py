"""The law for matchers of any declaration: an empty queue and a rebuild both leave the lists as they are defined."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from matching_pipeline.db.connections import Connection, connect
from matching_pipeline.db.queries import named_rows
from matching_pipeline.db.transactions import snapshot
from matching_pipeline.handlers import matches
from matching_pipeline.matches import matching, scoring
from matching_pipeline.matches.matching import matching_of
from matching_pipeline.matches.parity import expected_lists
from matching_pipeline.matches.scoring import match_policy
from matching_pipeline.matches.writing import Figures
from matching_pipeline.providers.protocols import FLOAT16
from matching_pipeline.queues.handler import Handler
from matching_pipeline.sources import expansion
from matching_pipeline.sources.attach import attach, detach
from matching_pipeline.sources.declarations import Declarations, ImageEmbeddings, Matches, TextEmbeddings
from matching_pipeline.sources.matcher import Exceptions, Matcher
from matching_pipeline.sources.source import Pictures, Source
from matching_pipeline_tests.integration.law import (
    DIMENSIONS,
    Law,
    Vector,
    at,
    hold_law,
    places,
    upheavals,
    vectors,
)
from matching_pipeline_tests.integration.marketplace import url_of
from matching_pipeline_tests.integration.matchmaking import handlers, register_models

TABLES = f"""
create table things (
    id bigint primary key, kind text, owner text, school text, gender text, words text, vector vector({DIMENSIONS})
);
create table photos (id bigint primary key, thing bigint references things on delete cascade, url text);
create table refusals (id bigint generated always as identity primary key, one text, other text);
"""

contents = st.sampled_from(["vector", "text", "pictures"])
kinds = st.sampled_from(["one", "one", "other", "other", "neither"])
owners = st.sampled_from(["Ann", "Ben", "Cid", "Ann", "Ben", "Cid", None])
schools = st.sampled_from(["UIT", "UIT", "UIT", "HUST", None])
genders = st.sampled_from(["male", "female", "male", "female", "other"])
colors = st.lists(st.sampled_from(["red", "blue"]), unique=True)
rules = st.fixed_dictionaries(
    {
        "same": st.sampled_from([(), ("school",)]),
        "opposite": st.sampled_from([{}, {}, {"gender": ("male", "female")}]),
        "never_same": st.sampled_from([None, None, "owner"]),
        "except": st.none() | st.builds(Exceptions, both_ways=st.booleans(), **{
            name: st.just(value) for name, value in
            {"table": "refusals", "left": "one", "right": "other", "on": "owner"}.items()
        }),
        "lists": st.sampled_from(["left", "both"]),
        "top": st.integers(1, 4),
        "threshold": st.sampled_from([0.5, 0.0]),
        "attribute_weight": st.sampled_from([0.0, 0.2]),
    }
)  # fmt: skip


def declare(content: str, within: bool, rule: dict[str, Any]) -> Declarations:
    """A matcher of things with things of the same kind, or of the other kind."""
    names = ("one",) if within else ("one", "other")
    given: dict[str, dict[str, Any]] = {
        "vector": {"vector": "vector"},
        "text": {"text": ("t.words",)},
        "pictures": {"pictures": Pictures(table="photos", entity="thing", url="url")},
    }
    sources = tuple(
        Source(
            **{"name": name, "table": "things", "when": f"t.kind = '{name}'", "user": "owner", **given[content]},
            properties={"school": "t.school", "gender": "t.gender"},
        )
        for name in names
    )
    matcher = Matcher.model_validate(
        {"name": "drawn", "left": names[0], "right": names[-1], "columns": ("one_id", "other_id"), **rule}
    )
    return Declarations(
        sources=sources,
        images=(ImageEmbeddings(name="thing_pictures", sources=names),) if content == "pictures" else (),
        texts=(TextEmbeddings(name="thing_texts", sources=names),) if content == "text" else (),
        matches=(Matches(matchers=(matcher,)),),
    )


class DeclaredLaw(Law):
    content: str

    @initialize(
        content=contents,
        within=st.booleans(),
        suffix=st.sampled_from(["", FLOAT16]),
        rule=rules,
        given=st.lists(vectors, min_size=8, max_size=12),
    )
    def declare(self, content: str, within: bool, suffix: str, rule: dict[str, Any], given: list[Vector]) -> None:
        for name in ("one", "other"):
            detach(self.connection, name, forget=True)
        for table in ("things", "photos", "refusals", "matching_pipeline.jobs"):
            self.connection.execute(f"truncate {table} cascade".encode())
        self.connection.execute(
            "update matching_pipeline.embedding_models set name = 'given ' || modality || %s "
            "where modality in ('image', 'text')",
            (suffix,),
        )
        self.content, self.declarations = content, declare(content, within, rule)
        (self.matcher,) = self.declarations.matchers
        self.sources = [source.name for source in self.declarations.sources]
        attach(self.connection, self.declarations)
        self.app, self.last = self.declarations, 0
        for number, vector in enumerate(given):
            owner = ("Ann", "Ben", "Cid")[number % 3]
            gender = ("male", "female")[number // 2 % 2]
            self.add(("one", "other")[number % 2], owner, "UIT", gender, vector, [])
        self.refuse("Ann", "Ben")
        self.process()

    def handlers(self) -> Sequence[Handler]:
        made = handlers(self.connection, self.declarations)
        for handler in made:
            handler.batch_size = 2
        return made

    def rebuild_lists(self, connection: Connection) -> Figures:
        return matching_of(self.matcher, part_images=3).rebuild(connection)

    def rows(self) -> list[Any]:
        return self.connection.execute(
            "select left_id, right_id, similarity, left_item, right_item, left_rank, right_rank "
            "from matching_pipeline.matches where matcher = 'drawn' order by left_id, right_id"
        ).fetchall()

    def expected_rows(self) -> list[Any]:
        ranks: dict[tuple[UUID, UUID], dict[str, int]] = defaultdict(dict)
        proofs = {}
        entities = "select id from matching_pipeline.entities where source = %s"
        with snapshot(self.connection):
            for source in self.matcher.keepers:
                ids = [id for (id,) in self.connection.execute(entities.encode(), (source,))]
                for owner, pairs in expected_lists(self.connection, self.matcher, source, ids).items():
                    for rank, pair in enumerate(pairs, start=1):
                        within = self.matcher.left == self.matcher.right
                        is_left = owner < pair.right if within else source == self.matcher.left
                        both = [(owner, pair.left_image), (pair.right, pair.right_image)]
                        (left, left_item), (right, right_item) = both if is_left else reversed(both)
                        ranks[left, right]["left" if is_left else "right"] = rank
                        proofs[left, right] = pair.similarity, left_item, right_item
        return sorted((*pair, *proofs[pair], of.get("left"), of.get("right")) for pair, of in ranks.items())

    def mirror(self) -> tuple[set[Any], set[Any]]:
        mirrored = self.connection.execute(
            """select entities.source, entities.key, user_key, properties ->> 'school', properties ->> 'gender',
                coalesce(items.key, case when embedding is not null then entities.key end)
            from matching_pipeline.entities
            left join matching_pipeline.items on items.source = entities.source and items.entity = entities.id
            where entities.source = any (%s)""",
            (self.sources,),
        ).fetchall()
        there = self.connection.execute(
            """select kind, things.id::text, owner, school, gender,
                case when %(pictures)s then photos.id::text else things.id::text end
            from things left join photos on photos.thing = things.id and %(pictures)s
            where kind = any (%(sources)s) and (vector is not null or not %(vector)s)""",
            {
                "sources": self.sources,
                "pictures": self.content == "pictures",
                "vector": self.content == "vector",
            },
        ).fetchall()
        return set(mirrored), set(there)

    def change_a_listed_entity(self, vector: Vector, place: int) -> None:
        keys = self.connection.execute(
            "select left_key from matching_pipeline.matches union select right_key from matching_pipeline.matches "
            "order by 1"
        ).fetchall()
        if keys:
            self._give(int(at(place, keys)[0]), vector, [])

    def things(self) -> list[int]:
        return [id for (id,) in self.connection.execute("select id from things order by id")]

    @rule(kind=kinds, owner=owners, school=schools, gender=genders, vector=vectors, words=colors)
    def add(
        self, kind: str, owner: str | None, school: str | None, gender: str, vector: Vector, words: list[str]
    ) -> None:
        self.last += 1
        statement = "insert into things (id, kind, owner, school, gender) values (%s, %s, %s, %s, %s)"
        self.change(statement, self.last, kind, owner, school, gender)
        self._give(self.last, vector, words)

    @rule(place=places, vector=vectors, words=colors)
    def give_another_vector(self, place: int, vector: Vector, words: list[str]) -> None:
        """With pictures, one more or another one."""
        if things := self.things():
            self._give(at(place, things), vector, words)

    @rule(place=places, kind=kinds, owner=owners, school=schools, gender=genders, changed=st.integers(0, 3))
    def change_a_thing(
        self, place: int, kind: str, owner: str | None, school: str | None, gender: str, changed: int
    ) -> None:
        if things := self.things():
            name, value = (("kind", kind), ("owner", owner), ("school", school), ("gender", gender))[changed]
            self.change(f"update things set {name} = %s where id = %s", value, at(place, things))

    @rule(place=places)
    def delete(self, place: int) -> None:
        if things := self.things():
            self.change("delete from things where id = %s", at(place, things))

    @rule(one=owners, other=owners)
    def refuse(self, one: str | None, other: str | None) -> None:
        self.change("insert into refusals (one, other) values (%s, %s)", one, other)

    @rule(place=places, other=owners, deletes=st.booleans())
    def take_a_refusal_back(self, place: int, other: str | None, deletes: bool) -> None:
        ids = [id for (id,) in self.connection.execute("select id from refusals order by id")]
        if ids and deletes:
            self.change("delete from refusals where id = %s", at(place, ids))
        elif ids:
            self.change("update refusals set other = %s where id = %s", other, at(place, ids))

    @rule(place=places, vector=vectors)
    def change_one_vector_alone(self, place: int, vector: Vector) -> None:
        """Other changes would have more lists computed, and hide faults."""
        self.settle()
        self.give_another_vector(place, vector, [])
        self.lists_hold_alone()

    @rule(place=places, one=owners, other=owners, adds=st.booleans())
    def change_one_refusal_alone(self, place: int, one: str | None, other: str | None, adds: bool) -> None:
        self.settle()
        if adds:
            self.refuse(one, other)
        else:
            self.take_a_refusal_back(place, other, True)
        self.lists_hold_alone()

    @rule(place=places, kind=kinds, owner=owners, school=schools, gender=genders, changed=st.integers(0, 3))
    def change_one_thing_alone(self, **change: Any) -> None:
        self.settle()
        self.change_a_thing(**change)
        self.lists_hold_alone()

    def lists_hold_alone(self) -> None:
        self.process()
        assert self.rows() == self.expected_rows()
        figures = self.rebuild_lists(self.connection)
        assert (figures.added, figures.changed, figures.removed) == (0, 0, 0)
        self.scores_are_explained()

    def scores_are_explained(self) -> None:
        """By `explain_match` and by the gallery, also where items have several vectors."""
        weight = match_policy(self.connection, "drawn").attribute_weight
        for id, *row in self.connection.execute(
            """select left_id, similarity, matches.left_item, matches.right_item,
                score, said.left_item, said.right_item
            from matching_pipeline.matches
            cross join lateral matching_pipeline.explain_match(matcher, left_key, right_key) as said
            where matcher = 'drawn'"""
        ).fetchall():
            assert row[:3] == row[3:]
            shown = {"matcher": "drawn", "source": self.matcher.left, "id": id, "count": 99}
            for each in named_rows(self.connection, "gallery_list", **shown):
                score = (1 - weight) * each["cosine"] + weight * each["overlap"]
                assert score == pytest.approx(each["similarity"], abs=1e-6)

    @rule(
        upheaval=upheavals(
            "drawn",
            {"threshold": [0, 0.5, 0.9], "top": [1, 2, 4], "attribute_weight": [0, 0.2]},
            ["things", "refusals", "matching_pipeline.matches"],
        )
    )
    def change_all(self, upheaval: str) -> None:
        self.change(upheaval)

    def _give(self, thing: int, vector: Vector, words: list[str]) -> None:
        given = url_of(vector, words)
        if self.content == "text" and words:
            # a long text, of two parts or three
            further = [(0.0, 0.0, 1.0, 0.0), (0.9, 0.2, 0.3, 0.0)][: len(words)]
            given = given.replace(";", "".join("|" + ",".join(map(str, part)) for part in further) + ";")
        self.change(
            "update things set vector = %s::vector, words = %s where id = %s", str(list(vector)), given, thing
        )
        if self.content == "pictures":
            self.last += 1
            # few pictures of a thing, some of them replaced
            self.change(
                "insert into photos (id, thing, url) values (%s, %s, %s) "
                "on conflict (id) do update set url = excluded.url",
                *(10 * thing + self.last % 3, thing, given),
            )


@pytest.fixture(scope="module")
def module_database_url(new_database: Callable[..., str], migrated_template: str) -> str:
    return new_database(migrated_template)


def test_lists_are_as_declared_after_any_sequence_of_events(
    module_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(module_database_url, monkeypatch)
    hold_law(DeclaredLaw, module_database_url, examples=18)


def prepare(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with connect(database_url) as connection:
        connection.execute(TABLES.encode())
        register_models(connection, DIMENSIONS)
    monkeypatch.setattr(matching, "SHARD_ENTITIES", 2)
    monkeypatch.setattr(matching, "LISTS_AT_ONCE", 1)
    monkeypatch.setattr(scoring, "FEW_SOUGHT", 1)
    monkeypatch.setattr(matches, "CROWD", 3)
    monkeypatch.setattr(expansion, "KEYS_AT_ONCE", 2)
