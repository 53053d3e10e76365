"""`explain_match` says why a pair is kept or not, in the numbers of the lists."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import numpy as np
import psycopg
import pytest

from matching_pipeline.db.connections import Connection
from matching_pipeline.sources.attach import attach
from matching_pipeline.sources.declarations import Declarations, Matches
from matching_pipeline.sources.matcher import Exceptions
from matching_pipeline_tests.conftest import EXAMPLES
from matching_pipeline_tests.integration.marketplace import Marketplace
from matching_pipeline_tests.integration.school import FACE_RULE, School


def explain(connection: Connection, matcher: str, left: UUID, right: UUID) -> dict[str, Any]:
    with connection.cursor(row_factory=psycopg.rows.dict_row) as cursor:
        statement = "select * from matching_pipeline.explain_match(%s, %s, %s)"
        row = cursor.execute(statement.encode(), (matcher, str(left), str(right))).fetchone()
        assert row is not None
        return row


def test_every_pair_has_the_score_and_the_items_of_its_row(connection: Connection, database_url: str) -> None:
    generator, marketplace = np.random.default_rng(20), Marketplace(connection, dimensions=8)
    connection.execute("update matching_pipeline.match_settings set top = 4 where matcher = 'project'")
    colors = ["red", "green", "blue", "grey"]
    sides: dict[str, list[UUID]] = {"project": [], "product": []}
    for kind, entities in sides.items():
        for number in range(12):
            entity = marketplace.add(kind)
            entities.append(entity)
            for _ in range(1 + number % 3):
                vector = generator.normal(size=8) + 0.5
                marketplace.add_image(
                    kind, entity, vector.tolist(), list(generator.permutation(colors)[: number % 4])
                )
    marketplace.process(database_url)
    rows = {(row[0], row[1]): row[2:] for row in marketplace.matches()}
    floors = {project: min(row[0] for (left, _), row in rows.items() if left == project) for project, _ in rows}
    lengths = {project: sum(left == project for left, _ in rows) for project, _ in rows}
    for project in sides["project"]:
        for product in sides["product"]:
            said = explain(connection, "project", project, product)
            row = rows.get((project, product))
            assert said["kept"] == (row is not None)
            if row:
                assert (said["score"], said["left_item"], said["right_item"], said["left_rank"]) == row
            elif said["score"] < 0.5:
                assert said["missed_by"] == pytest.approx(0.5 - said["score"])
            else:
                assert lengths[project] == 4
                assert said["missed_by"] == pytest.approx(floors[project] - said["score"])


@pytest.mark.parametrize(
    ("one", "other", "because"),
    [
        (("male", "UIT"), ("female", "UEH"), "school must be the same: one has UIT, the other UEH"),
        (("male", "UIT"), ("male", "UIT"), "gender must be male of one and female of the other"),
        (("male", "UIT"), (None, "UIT"), "one has male, the other none"),
    ],
)
def test_it_names_the_rule_that_keeps_two_apart(
    connection: Connection, database_url: str, one: Sequence[str], other: Sequence[str], because: str
) -> None:
    school = School(connection, database_url)
    ours, theirs = (school.face(school.user(*each)) for each in (one, other))
    school.process()
    said = explain(connection, "face", ours, theirs)
    assert because in said["because"]
    assert not said["kept"]


def test_it_names_the_table_of_exceptions(connection: Connection, database_url: str) -> None:
    connection.execute("create table blocks (blocker uuid, blocked uuid)")
    blocks = Exceptions(table="blocks", left="blocker", right="blocked", on="user_id")
    rule = FACE_RULE.model_copy(update={"exceptions": blocks})
    attach(connection, Declarations(sources=(EXAMPLES.source("face"),), matches=(Matches(matchers=(rule,)),)))
    school = School(connection, database_url)
    him, her = school.user("male"), school.user("female")
    his, hers = school.face(him), school.face(her)
    school.process()
    for pair in ((his, hers), (hers, his)):
        said = explain(connection, "face", *pair)
        assert (said["kept"], said["left_rank"], said["right_rank"]) == (True, 1, 1)
    connection.execute("insert into blocks values (%s, %s)", (her, him))
    assert explain(connection, "face", his, hers)["because"] == "the table public.blocks excepts the pair"


def test_an_unknown_entity_and_matcher_are_named(connection: Connection) -> None:
    said = explain(connection, "face", UUID(int=1), UUID(int=2))
    assert said["because"].startswith("no worker has read an entity of face with that key")
    with pytest.raises(psycopg.errors.UndefinedObject, match="there is no matcher none"):
        explain(connection, "none", UUID(int=1), UUID(int=2))
