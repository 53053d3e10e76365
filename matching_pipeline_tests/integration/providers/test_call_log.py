"""The call log and the answer cache: their session, and for how long they keep rows."""

from datetime import timedelta

import psycopg
import pytest

from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import query
from matching_pipeline.providers import answer_cache, call_log
from matching_pipeline.providers.answer_cache import Answer
from matching_pipeline_tests.integration.providers.conftest import OpenAsker


def test_a_session_that_is_lost_is_opened_again(open_asker: OpenAsker, connection: Connection) -> None:
    asker = open_asker()
    asker.record(a=b"1")
    connection.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity "
        "where pid <> pg_backend_pid() and datname = current_database()"
    )
    asker.record(b=b"2")
    assert asker.cache.find("m", [b"a", b"b"]) == {b"a": Answer(b"1", 1, 0), b"b": Answer(b"2", 1, 0)}
    assert connection.execute("select count(*) from matching_pipeline.ai_calls").fetchone() == (2,)


def test_a_request_is_recorded_though_the_callers_transaction_is_rolled_back(
    open_asker: OpenAsker, connection: Connection
) -> None:
    with connection.transaction(force_rollback=True):
        connection.execute("select 1")
        open_asker().record(a=b"1")
    assert connection.execute("select count(*) from matching_pipeline.ai_answers").fetchone() == (1,)


def test_old_rows_are_deleted(open_asker: OpenAsker, connection: Connection) -> None:
    asker, days = open_asker(), timedelta(days=7)
    asker.record(old=b"1")
    for table in ("ai_calls", "ai_answers"):
        connection.execute(f"update matching_pipeline.{table} set created_at = now() - interval '8 days'".encode())
    asker.record(new=b"2")
    assert (answer_cache.purge(connection, days), call_log.purge(connection, timedelta(days=90))) == (1, 0)
    assert connection.execute("select input_hash from matching_pipeline.ai_answers").fetchall() == [(b"new",)]
    assert (answer_cache.purge(connection, days), call_log.purge(connection, days)) == (0, 1)


def test_large_answers_are_deleted_few_at_a_time(connection: Connection) -> None:
    connection.execute(
        "insert into matching_pipeline.ai_answers (model, input_hash, answer, input_tokens, output_tokens, "
        "created_at) select 'm', sha256(n::text::bytea), "
        "case when n > 3 then 'small' else convert_to(repeat('x', 35000000), 'utf8') end, "
        "1, 1, now() - n * interval '1 minute' from generate_series(1, 9) as n"
    )
    keep = {"keep": timedelta(0)}
    assert [connection.execute(query("purge_ai_answers"), keep).rowcount for _ in range(3)] == [8, 1, 0]


def test_the_same_answer_from_two_processes_is_kept_once(open_asker: OpenAsker, connection: Connection) -> None:
    open_asker().record(a=b"1")
    open_asker().record(a=b"1")
    assert connection.execute("select count(*) from matching_pipeline.ai_answers").fetchone() == (1,)


def test_a_figure_that_makes_no_sense_is_refused(connection: Connection) -> None:
    with pytest.raises(psycopg.errors.CheckViolation, match="ai_calls_failed_requires_error"):
        connection.execute(
            "insert into matching_pipeline.ai_calls (queue, model, items, milliseconds, outcome) "
            "values ('l', 'm', 1, 1, 'refused')"
        )
