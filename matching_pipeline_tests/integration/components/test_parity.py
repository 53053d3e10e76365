"""The nightly comparison of some lists: its findings, the lists that it does not judge, and its time."""

import dagster as dg
import pytest

from matching_pipeline.components.parity import sampled_lists_are_exact
from matching_pipeline.components.resources import Pipeline
from matching_pipeline.db.connections import Connection
from matching_pipeline.definitions import defs
from matching_pipeline.handlers import registry
from matching_pipeline.matches.parity import sampled_parity
from matching_pipeline.settings import Settings
from matching_pipeline_tests.conftest import EXAMPLES
from matching_pipeline_tests.integration.components.conftest import CHECKS
from matching_pipeline_tests.integration.marketplace import Marketplace
from matching_pipeline_tests.integration.school import School

lists_are_exact = sampled_lists_are_exact(EXAMPLES.matches[0])


@pytest.fixture
def matched(connection: Connection, database_url: str) -> None:
    """Three projects that match three products each, and a woman and two men. The queue is empty."""
    market, school = Marketplace(connection), School(connection, database_url)
    for n in range(3):
        market.add_image("project", market.add("project"), (1, n / 9, 0))
        market.add_image("product", market.add("product"), (1, n / 5, 0), ["red"])
    for gender, vector in (("female", (1.0, 0.0)), ("male", (1.0, 0.0)), ("male", (1.0, 0.5))):
        school.face_of(gender, vector)
    for matcher in EXAMPLES.matchers:
        registry.work_off(Settings(), database_url, EXAMPLES, matcher.queue)
    connection.execute("delete from matching_pipeline.jobs")


def figures(result: dg.AssetCheckResult, kind: str) -> tuple[object, ...]:
    """Lists sampled, equal and not judged; pairs missing, stale and surplus."""
    names = ("lists sampled", "lists equal", "lists not judged", "pairs missing", "pairs stale", "pairs surplus")
    return tuple(result.metadata[f"{kind} {name}"].value for name in names)


@pytest.mark.usefixtures("matched")
def test_lists_as_the_definition_has_them_pass(pipeline: Pipeline) -> None:
    result = lists_are_exact.evaluate(pipeline)
    assert result.passed
    assert figures(result, "project") == (3, 3, 0, 0, 0, 0)
    assert figures(result, "face") == (3, 3, 0, 0, 0, 0)


@pytest.mark.usefixtures("matched")
@pytest.mark.parametrize(
    ("fault", "kind", "found"),
    [
        (
            "delete from matching_pipeline.matches where matcher = 'project' and left_rank = 3",
            "project",
            (3, 0, 0, 3, 0, 0),
        ),
        (
            "update matching_pipeline.matches set similarity = similarity - 0.00001 where left_rank = 1",
            "project",
            (3, 0, 0, 0, 3, 0),
        ),
        (
            "update matching_pipeline.matches set left_rank = 4 where left_rank = 3 and matcher = 'project'",
            "project",
            (3, 0, 0, 0, 3, 0),
        ),
        ("update matching_pipeline.match_settings set top = 1", "project", (3, 0, 0, 0, 0, 6)),
        (
            "delete from matching_pipeline.matches where matcher = 'face' and similarity = 1",
            "face",
            (3, 1, 0, 2, 0, 0),
        ),
        (
            "update matching_pipeline.matches set left_rank = null where similarity < 1 and matcher = 'face'",
            "face",
            (3, 2, 0, 1, 0, 0),
        ),
        (
            "update matching_pipeline.match_settings set top = 1 where matcher = 'face'",
            "face",
            (3, 2, 0, 0, 0, 1),
        ),
    ],
)
def test_a_list_that_differs_is_found_but_not_judged_while_jobs_wait(
    pipeline: Pipeline, connection: Connection, fault: str, kind: str, found: tuple[int, ...]
) -> None:
    connection.execute(fault.encode())
    connection.execute("delete from matching_pipeline.jobs")
    result = lists_are_exact.evaluate(pipeline)
    assert not result.passed
    assert figures(result, kind) == found

    connection.execute("update matching_pipeline.match_settings set top = top")
    result = lists_are_exact.evaluate(pipeline)
    sampled, equal, *_ = found
    assert result.passed
    assert figures(result, kind)[2] == sampled - equal
    assert "not judged" in (result.description or "")


@pytest.mark.usefixtures("matched")
def test_it_keeps_no_id_of_a_face(pipeline: Pipeline, connection: Connection) -> None:
    connection.execute("delete from matching_pipeline.matches")
    connection.execute("delete from matching_pipeline.jobs")
    told = repr(lists_are_exact.evaluate(pipeline))
    assert all(str(id) not in told for (id,) in connection.execute("select id from faces"))


@pytest.mark.usefixtures("matched")
def test_a_seed_names_its_sample(connection: Connection) -> None:
    projects = next(each for each in EXAMPLES.matchers if each.name == "project")
    first, again = (sampled_parity(connection, projects, 2, seed=1) for _ in range(2))
    assert first == again
    connection.execute(
        """with first as (select min(left_key) as key from matching_pipeline.matches where matcher = 'project')
        delete from matching_pipeline.matches using first where left_key = first.key and matcher = 'project'"""
    )
    found = [sampled_parity(connection, projects, 1, seed).missing for seed in range(20)]
    assert set(found) == {0, 3}


def test_it_comes_with_a_rebuild_and_not_with_the_reports_of_a_worker() -> None:
    nightly = {node.name for node in defs.get_repository_def().get_job("nightly").nodes}
    assert {"matches_sampled_lists_are_exact", "matches_every_pair_holds"} <= nightly
    with_reports = {name for asset, name in CHECKS if asset == "matches"}
    assert "every_pair_holds" in with_reports
    assert "sampled_lists_are_exact" not in with_reports
