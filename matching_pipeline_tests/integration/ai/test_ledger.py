"""The ledger's own life: lost sessions, a lock held by nobody, old rows."""

from datetime import timedelta
from decimal import Decimal
from threading import Thread

import psycopg
import pytest

from matching_pipeline.ai.ledger import Answer, Call, Ledger, purge
from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import query
from matching_pipeline.failures import ItemFailure, ProviderUnavailable, TransientFailure

Given = dict[bytes, Answer | ItemFailure]


def call(**answers: bytes) -> Call:
    kept = {name.encode(): Answer(content, 1, 0) for name, content in answers.items()}
    return Call("m", 1, 5, "answered", cost_usd=Decimal("0.5"), answered_by="m", answers=kept)


def unasked(missing: list[bytes]) -> Given:
    raise AssertionError(f"asked for {missing}")


def test_a_session_that_is_lost_is_opened_again(connection: Connection, database_url: str) -> None:
    with Ledger(database_url, "lane") as ledger:
        ledger.record(call(a=b"1"))
        connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity "
            "where pid <> pg_backend_pid() and datname = current_database()"
        )
        ledger.record(call(b=b"2"))
        assert ledger.answers("m", [b"a", b"b"], unasked) == {b"a": Answer(b"1", 1, 0), b"b": Answer(b"2", 1, 0)}
    assert connection.execute("select count(*) from ai_calls").fetchone() == (2,)


def test_a_request_is_recorded_though_the_callers_transaction_is_rolled_back(
    connection: Connection, database_url: str
) -> None:
    with Ledger(database_url, "lane") as ledger, connection.transaction(force_rollback=True):
        connection.execute("select 1")
        ledger.record(call(a=b"1"))
    assert connection.execute("select count(*) from ai_answers").fetchone() == (1,)


def test_who_waits_for_anothers_answer_gets_its_failure_too(database_url: str) -> None:
    with Ledger(database_url, "lane") as ledger:
        seen: list[object] = []

        def wait_for_the_other() -> None:
            try:
                ledger.answers("m", [b"a"], unasked)
            except ProviderUnavailable as error:
                seen.append(error)

        waiting = Thread(target=wait_for_the_other)

        def ask(missing: list[bytes]) -> Given:
            waiting.start()
            waiting.join(0.2)
            raise ProviderUnavailable("it is down", timedelta(seconds=1))

        with pytest.raises(ProviderUnavailable):
            ledger.answers("m", [b"a"], ask)
        waiting.join()
        assert len(seen) == 1
        # and nobody is left who believes that it is being asked
        failure = TransientFailure("odd")
        assert ledger.answers("m", [b"a"], lambda missing: {b"a": failure}) == {b"a": failure}


def test_answers_of_one_model_are_not_anothers(database_url: str) -> None:
    with Ledger(database_url, "lane") as ledger:
        ledger.record(call(a=b"1"))
        other: Given = {b"a": Answer(b"2", 1, 0)}
        assert ledger.answers("another", [b"a"], lambda missing: other) == other


def test_what_is_older_than_it_is_kept_leaves(connection: Connection, database_url: str) -> None:
    with Ledger(database_url, "lane") as ledger:
        ledger.record(call(old=b"1"))
        for table in ("ai_calls", "ai_answers"):
            connection.execute(f"update {table} set created_at = now() - interval '8 days'".encode())
        ledger.record(call(new=b"2"))
    assert purge(connection, timedelta(days=7), timedelta(days=90)) == 1
    assert connection.execute("select input_hash from ai_answers").fetchall() == [(b"new",)]
    assert purge(connection, timedelta(days=7), timedelta(days=7)) == 1


def test_large_answers_leave_few_at_a_time(connection: Connection) -> None:
    connection.execute(
        "insert into ai_answers (model, input_hash, answer, input_tokens, output_tokens, created_at) "
        "select 'm', sha256(n::text::bytea), "
        "case when n > 3 then 'small' else convert_to(repeat('x', 35000000), 'utf8') end, "
        "1, 1, now() - n * interval '1 minute' from generate_series(1, 9) as n"
    )
    keep = {"keep": timedelta(0)}
    assert [connection.execute(query("purge_ai_answers"), keep).rowcount for _ in range(3)] == [8, 1, 0]


def test_the_same_answer_from_two_processes_is_kept_once(connection: Connection, database_url: str) -> None:
    for _ in range(2):
        with Ledger(database_url, "lane") as ledger:
            ledger.record(call(a=b"1"))
    assert connection.execute("select count(*) from ai_answers").fetchone() == (1,)


def test_a_figure_that_makes_no_sense_is_refused(connection: Connection) -> None:
    with pytest.raises(psycopg.errors.CheckViolation, match="ai_calls_failed_says_why"):
        connection.execute(
            "insert into ai_calls (lane, model, items, milliseconds, outcome) values ('l', 'm', 1, 1, 'refused')"
        )
