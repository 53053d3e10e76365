"""`status` says in a sentence each why jobs wait, what fails, why nothing matches, and what is slow."""

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from matching_pipeline.db.connections import Connection
from matching_pipeline.queues import client
from matching_pipeline_tests.fixtures.app import App
from matching_pipeline_tests.fixtures.command import run_command
from matching_pipeline_tests.integration.school import School

Status = Callable[[], list[str]]

ABOUT = ("jobs wait", "errors", "no matches", "slow")


@pytest.fixture
def status(database_url: str, tmp_path: Path) -> Status:
    """The sentences, as a person and a program read them."""

    def status() -> list[str]:
        result = run_command(tmp_path, "status", DATABASE_URL=database_url)
        assert result.returncode == 0, result.stderr
        sentences = [line for line in result.stdout.splitlines() if line.partition(": ")[0] in ABOUT]
        told = json.loads(run_command(tmp_path, "status", "--json", DATABASE_URL=database_url).stdout)["troubles"]
        assert [each["about"] for each in told] == [line.partition(": ")[0] for line in sentences]
        return sentences

    return status


def post(connection: Connection, count: int = 1) -> None:
    connection.execute(
        "insert into jobs (title) select 'Baker ' || number from generate_series(1, %s) number", (count,)
    )


def test_a_database_where_nothing_waits_has_no_troubles(status: Status) -> None:
    assert status() == []


def test_jobs_that_no_worker_does_are_named_with_their_age(status: Status, connection: Connection) -> None:
    post(connection, 2)
    connection.execute("update matching_pipeline.jobs set created_at = now() - interval '4 minutes'")
    no_worker, oldest = status()
    assert no_worker.startswith("jobs wait: no worker is alive, no job was ever done: `matching-pipeline dev`")
    assert oldest == "jobs wait: the oldest of 2 pending jobs of job_embeddings waits 4 min"
    connection.execute(
        """update matching_pipeline.jobs set status = 'completed', completed_at = now() - interval '2 hours'
        where id = (select id from matching_pipeline.jobs limit 1)"""
    )
    assert status()[0].startswith("jobs wait: no worker is alive, the last job was done 2 h ago: ")


def test_a_pause_is_named(status: Status, connection: Connection) -> None:
    post(connection)
    client.pause(connection, "job_embeddings", "Ada")
    assert "jobs wait: job_embeddings is paused by Ada until it is resumed; 1 jobs are pending" in status()


def test_a_provider_that_refuses_is_named_until_it_answers(status: Status, connection: Connection) -> None:
    post(connection)
    client.snooze_queue(connection, "job_embeddings", timedelta(minutes=5), "the key is refused\nfor good")
    call = """insert into matching_pipeline.ai_calls (queue, model, items, milliseconds, outcome, error, created_at)
        values ('job_embeddings', 'm', 1, 1, %s, %s, now() - %s * interval '1 minute')"""
    assert any(" UTC: the key is refused for good" in sentence for sentence in status())
    for outcome, error, minutes in (("unavailable", "before", 60), ("answered", None, 50)):
        connection.execute(call, (outcome, error, minutes))
    for error, minutes in (("the key is refused", 30), ("overloaded", 3)):
        connection.execute(call, ("unavailable", error, minutes))
    assert "jobs wait: the provider of job_embeddings has refused for 30 min: overloaded" in status()


def test_dead_letters_are_counted_and_the_newest_is_told(status: Status, connection: Connection) -> None:
    post(connection, 12)
    connection.execute(
        """update matching_pipeline.jobs set status = 'failed', error_message = 'the text is empty',
            completed_at = now() - interval '3 minutes'"""
    )
    (told,) = status()
    assert told == (
        "errors: job_embeddings has 12 dead letters, the newest of 3 min ago: the text is empty; "
        "`matching-pipeline retry job_embeddings --all` tries again"
    )


def test_entities_that_no_rule_can_match_are_counted(
    status: Status, connection: Connection, database_url: str
) -> None:
    school = School(connection, database_url)
    for gender in ("other", "other", "robot", "male"):
        school.face_of(gender)
    school.process()
    told = status()
    assert "no matches: 3 entities of face have a gender that face does not know: 'other', 'robot'" in told
    connection.execute("delete from faces")
    school.face_of("male"), school.face_of("female", (-1, 0))
    school.process()
    assert status() == ["no matches: no pair of face reaches its threshold 0.5"]


def test_a_matcher_of_which_a_side_is_empty_is_named(status: Status, connection: Connection) -> None:
    app = App(connection)
    app.embed("project", app.listing_image(app.listing()))
    app.settle()
    assert status() == ["no matches: project has no entity of product that it can compare"]


def test_a_queue_that_falls_behind_says_how_long_its_last_job_waits(status: Status, connection: Connection) -> None:
    post(connection, 60)
    connection.execute("update matching_pipeline.jobs set created_at = now() - interval '30 seconds'")
    connection.execute(
        """update matching_pipeline.jobs set status = 'completed', completed_at = now()
        where id in (select id from matching_pipeline.jobs limit 20)"""
    )
    assert "slow: job_embeddings has 40 due jobs and did 2.0 a minute: the last waits about 20 min" in status()


def test_a_server_that_is_away_is_said_in_one_sentence(tmp_path: Path) -> None:
    for options in ((), ("--json",)):
        url = "postgresql://app@127.0.0.1:1/db"
        result: CompletedProcess[str] = run_command(tmp_path, "status", *options, DATABASE_URL=url)
        assert (result.returncode, result.stdout) == (1, "")
        (line,) = result.stderr.splitlines()
        assert "DATABASE_URL: the server is away: " in line
