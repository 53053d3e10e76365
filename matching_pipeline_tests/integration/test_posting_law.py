"""The law of `job_embeddings`: when its queue is empty it has the active postings as they are now, and no other."""

import random
from collections.abc import Sequence
from contextlib import suppress
from time import sleep
from typing import Any
from uuid import UUID

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from matching_pipeline.db.connections import Connection
from matching_pipeline.handlers.texts import TextHandler
from matching_pipeline_tests.fixtures.postings import LetterEmbedder, work_postings
from matching_pipeline_tests.integration.law import reused_sessions
from matching_pipeline_tests.integration.meanwhile import change_while_workers_run

TITLES = ("Baker", "Cook", "Nurse", "", None)
STATEMENTS = (
    "insert into jobs (title, is_active) values (%(title)s, %(active)s)",
    "update jobs set title = %(title)s where id = %(job)s",
    "update jobs set is_active = %(active)s where id = %(job)s",
    "update jobs set title = %(title)s, is_active = %(active)s where id in (%(job)s, %(other)s)",
    "update jobs set id = gen_random_uuid() where id = %(job)s",
    "delete from jobs where id = %(job)s",
    "insert into embedding_queue (job_id) values (%(job)s)",
    "insert into jobs (id, title, is_active) values (%(job)s, %(title)s, %(active)s) "
    "on conflict (id) do update set title = excluded.title, is_active = excluded.is_active",
)


def act(connection: Connection, statement: str, choose: random.Random) -> None:
    ids: list[UUID] = [id for (id,) in connection.execute("select id from jobs order by id limit 10")] or [
        UUID(int=1)
    ]
    parameters: dict[str, Any] = {
        "title": choose.choice(TITLES),
        "active": choose.random() < 0.7,
        "job": choose.choice(ids),
        "other": choose.choice(ids),
    }
    with suppress(psycopg.errors.ForeignKeyViolation):  # the posting to be queued is deleted
        connection.execute(statement.encode(), parameters)


def holds(connection: Connection) -> None:
    """Every active posting with a text has its embedding, and there is no other row."""
    wrong = connection.execute(
        """select postings.id, postings.title, job_embeddings.job_id
        from (select * from jobs where is_active and title <> '') as postings
        full join job_embeddings on job_id = postings.id and input_hash = sha256(title::bytea)
        where postings.id is null or job_embeddings.job_id is null"""
    ).fetchall()
    assert wrong == []
    strangers = connection.execute(
        "select key from matching_pipeline.entities where key not in (select id::text from jobs where is_active)"
    ).fetchall()
    assert strangers == []
    unfinished = connection.execute("select * from job_queue where status in ('pending', 'processing')").fetchall()
    assert unfinished == []


@pytest.mark.parametrize("seed", range(3))
def test_it_holds_whatever_the_app_does_while_workers_run(
    connection: Connection, database_url: str, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    # so that each text is sent
    monkeypatch.setattr(TextHandler, "_known", lambda *_: {})

    def change(session: Connection, choose: random.Random) -> None:
        act(session, choose.choice(STATEMENTS), choose)
        sleep(choose.random() / 200)

    def wait_a_little(texts: Sequence[str]) -> None:
        sleep(random.random() / 50)

    embedder = LetterEmbedder(wait_a_little, batch_items=3, concurrency=3)
    change_while_workers_run(database_url, seed, change, lambda: work_postings(database_url, embedder))
    connection.execute("update matching_pipeline.jobs set run_at = now() where status = 'pending'")
    work_postings(database_url)
    holds(connection)


class Postings(RuleBasedStateMachine):
    """One app and one worker, taking turns."""

    connection: Connection
    database_url: str

    @initialize()
    def empty(self) -> None:
        self.connection.execute("truncate jobs, matching_pipeline.jobs, matching_pipeline.embedding_models cascade")

    @rule(statement=st.sampled_from(STATEMENTS), seed=st.integers(0, 1000))
    def change(self, statement: str, seed: int) -> None:
        act(self.connection, statement, random.Random(seed))

    @rule()
    def work(self) -> None:
        work_postings(self.database_url)
        holds(self.connection)
        assert self.connection.execute("select matching_pipeline.enqueue_missing()").fetchone() == (0,)

    def teardown(self) -> None:
        self.work()


def test_it_holds_after_any_sequence_of_changes(connection: Connection, database_url: str) -> None:
    Postings.connection, Postings.database_url = connection, database_url
    with reused_sessions():
        run_state_machine_as_test(
            Postings,
            settings=settings(
                max_examples=15, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
            ),
        )
