"""The nightly look at some lists: what it finds, what it does not judge, and when it comes."""

import dagster as dg
import pytest

from matching_pipeline.components.matches import every_pair_holds, matches_report
from matching_pipeline.components.parity import sampled_lists_are_exact
from matching_pipeline.components.resources import Pipeline
from matching_pipeline.db.connections import Connection
from matching_pipeline.definitions import defs
from matching_pipeline.handlers.matches import MatchHandler
from matching_pipeline.matches.parity import sampled_parity
from matching_pipeline.queues.worker import Worker
from matching_pipeline_tests.integration.components.test_checks import evaluate
from matching_pipeline_tests.integration.marketplace import Marketplace
from matching_pipeline_tests.integration.school import School


@pytest.fixture
def matched(connection: Connection, database_url: str) -> None:
    """Three projects that match three products each, and a woman and two men; nothing is owed."""
    market, school = Marketplace(connection), School(connection, database_url)
    for n in range(3):
        market.add_image("project", market.add("project"), (1, n / 9, 0))
        market.add_image("product", market.add("product"), (1, n / 5, 0), ["red"])
    for gender, vector in (("female", (1.0, 0.0)), ("male", (1.0, 0.0)), ("male", (1.0, 0.5))):
        school.face_of(gender, vector)
    Worker(database_url, MatchHandler()).run()
    school.drain()
    connection.execute("delete from job_queue")


def figures(result: dg.AssetCheckResult, kind: str) -> tuple[object, ...]:
    """Lists sampled, equal and not judged; pairs missing, stale and surplus."""
    names = ("lists sampled", "lists equal", "lists not judged", "pairs missing", "pairs stale", "pairs surplus")
    return tuple(result.metadata[f"{kind} {name}"].value for name in names)


@pytest.mark.usefixtures("matched")
def test_lists_as_the_definition_has_them_pass(pipeline: Pipeline) -> None:
    result = evaluate(sampled_lists_are_exact, pipeline)
    assert result.passed
    assert figures(result, "project") == (3, 3, 0, 0, 0, 0)
    assert figures(result, "face") == (3, 3, 0, 0, 0, 0)


@pytest.mark.usefixtures("matched")
@pytest.mark.parametrize(
    ("fault", "kind", "found"),
    [
        ("delete from matches where kind = 'project' and rank = 3", "project", (3, 0, 0, 3, 0, 0)),
        ("update matches set similarity = similarity - 0.00001 where rank = 1", "project", (3, 0, 0, 0, 3, 0)),
        ("update matches set rank = 4 where rank = 3", "project", (3, 0, 0, 0, 3, 0)),
        ("update match_settings set match_limit = 1", "project", (3, 0, 0, 0, 0, 6)),
        ("delete from matches where kind = 'face' and similarity = 1", "face", (3, 1, 0, 2, 0, 0)),
        ("update matches set rank_for_a = null where similarity < 1 and kind = 'face'", "face", (3, 2, 0, 1, 0, 0)),
        ("update match_settings set match_limit = 1 where kind = 'face'", "face", (3, 2, 0, 0, 0, 1)),
    ],
)
def test_a_list_that_differs_is_found_and_not_judged_while_work_waits(
    pipeline: Pipeline, connection: Connection, fault: str, kind: str, found: tuple[int, ...]
) -> None:
    connection.execute(fault.encode())
    connection.execute("delete from job_queue")
    result = evaluate(sampled_lists_are_exact, pipeline)
    assert not result.passed
    assert figures(result, kind) == found

    connection.execute("update match_settings set match_limit = match_limit")
    result = evaluate(sampled_lists_are_exact, pipeline)
    sampled, equal, *_ = found
    assert result.passed
    assert figures(result, kind)[2] == sampled - equal
    assert "not judged" in (result.description or "")


@pytest.mark.usefixtures("matched")
def test_of_faces_it_keeps_no_id(pipeline: Pipeline, connection: Connection) -> None:
    connection.execute("delete from matches")
    connection.execute("delete from job_queue")
    told = repr(evaluate(sampled_lists_are_exact, pipeline))
    assert all(str(id) not in told for (id,) in connection.execute("select id from faces"))


@pytest.mark.usefixtures("matched")
def test_a_seed_names_its_sample(connection: Connection) -> None:
    assert sampled_parity(connection, "project", 2, seed=1) == sampled_parity(connection, "project", 2, seed=1)
    connection.execute("delete from matches where project_id = (select min(project_id::text)::uuid from matches)")
    found = [sampled_parity(connection, "project", 1, seed).missing for seed in range(20)]
    assert set(found) == {0, 3}


def test_it_comes_with_a_rebuild_and_not_with_the_reports_of_a_worker() -> None:
    nightly = {node.name for node in defs.get_repository_def().get_job("nightly").nodes}
    assert {"matches_sampled_lists_are_exact", "matches_every_pair_holds"} <= nightly
    assert sampled_lists_are_exact not in matches_report.checks
    assert every_pair_holds in matches_report.checks
