"""The ledger's own life: lost sessions, a lock held by nobody, old rows."""

from datetime import timedelta
from decimal import Decimal
from threading import Thread

import psycopg
import pytest

from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import query
from matching_pipeline.errors import JobFailure, ProviderUnavailable, TransientFailure
from matching_pipeline.providers.ledger import Answer, Call, Ledger, purge

Given = dict[bytes, Answer | JobFailure]


def call(**answers: bytes) -> Call:
    kept = {name.encode(): Answer(content, 1, 0) for name, content in answers.items()}
    return Call("m", 1, 5, "answered", cost_usd=Decimal("0.5"), answered_by="m", answers=kept)


def unasked(missing: list[bytes]) -> Given:
    raise AssertionError(f"asked for {missing}")


def test_a_session_that_is_lost_is_opened_again(connection: Connection, database_url: str) -> None:
    with Ledger(database_url, "queue") as ledger:
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
    with Ledger(database_url, "queue") as ledger, connection.transaction(force_rollback=True):
        connection.execute("select 1")
        ledger.record(call(a=b"1"))
    assert connection.execute("select count(*) from ai_answers").fetchone() == (1,)


def test_who_waits_for_anothers_answer_gets_its_failure_too(database_url: str) -> None:
    with Ledger(database_url, "queue") as ledger:
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
    with Ledger(database_url, "queue") as ledger:
        ledger.record(call(a=b"1"))
        other: Given = {b"a": Answer(b"2", 1, 0)}
        assert ledger.answers("another", [b"a"], lambda missing: other) == other


def test_what_is_older_than_it_is_kept_leaves(connection: Connection, database_url: str) -> None:
    with Ledger(database_url, "queue") as ledger:
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
        with Ledger(database_url, "queue") as ledger:
            ledger.record(call(a=b"1"))
    assert connection.execute("select count(*) from ai_answers").fetchone() == (1,)


def test_what_another_process_is_asking_is_waited_for(database_url: str) -> None:
    with Ledger(database_url, "one") as one, Ledger(database_url, "other") as other:
        got: list[Given] = []
        waiting = Thread(target=lambda: got.append(other.answers("m", [b"a"], unasked)))

        def ask(missing: list[bytes]) -> Given:
            waiting.start()
            waiting.join(0.5)
            assert not got
            one.record(call(a=b"1"))
            return {b"a": Answer(b"1", 1, 0)}

        one.answers("m", [b"a"], ask)
        waiting.join()
        assert got == [{b"a": Answer(b"1", 1, 0)}]


def test_of_what_two_processes_ask_each_asks_its_own_part(connection: Connection, database_url: str) -> None:
    """In opposite orders, so that neither may wait with something in hand."""
    asked: list[list[bytes]] = []

    def answer(ledger: Ledger, wanted: list[bytes]) -> None:
        def ask(missing: list[bytes]) -> Given:
            asked.append(missing)
            ledger.record(call(**{name.decode(): b"1" for name in missing}))
            return {name: Answer(b"1", 1, 0) for name in missing}

        assert len(ledger.answers("m", wanted, ask)) == len(wanted)

    names = [f"{number:03}".encode() for number in range(200)]
    with Ledger(database_url, "one") as one, Ledger(database_url, "other") as other:
        sides = [Thread(target=answer, args=side) for side in ((one, names[:150]), (other, names[50:][::-1]))]
        for side in sides:
            side.start()
        for side in sides:
            side.join()
    assert sorted(name for names in asked for name in names) == names
    assert connection.execute("select count(*) from ai_asking").fetchone() == (0,)


def test_what_another_process_failed_to_get_is_asked_again(database_url: str) -> None:
    with Ledger(database_url, "one") as one, Ledger(database_url, "other") as other:
        answers: Given = {b"a": Answer(b"2", 1, 0)}
        got: list[Given] = []
        waiting = Thread(target=lambda: got.append(other.answers("m", [b"a"], lambda missing: answers)))

        def ask(missing: list[bytes]) -> Given:
            waiting.start()
            waiting.join(0.3)
            raise ProviderUnavailable("it is down", timedelta(seconds=1))

        with pytest.raises(ProviderUnavailable):
            one.answers("m", [b"a"], ask)
        waiting.join()
        assert got == [answers]


def test_what_a_process_that_died_was_asking_is_asked_again(connection: Connection, database_url: str) -> None:
    answers: Given = {b"a": Answer(b"2", 1, 0)}
    with Ledger(database_url, "dead") as dead, Ledger(database_url, "alive") as alive:

        def ask(missing: list[bytes]) -> Given:
            connection.execute(
                "select pg_terminate_backend(pid, 5000) from pg_stat_activity "
                "where pid in (select asker from ai_asking) and datname = current_database()"
            )
            assert alive.answers("m", [b"a"], lambda missing: answers) == answers
            return answers

        assert dead.answers("m", [b"a"], ask) == answers


def test_what_the_dead_were_asking_is_forgotten(connection: Connection, database_url: str) -> None:
    connection.execute("insert into ai_asking (model, input_hash, asker) values ('m', 'a', 1)")
    with Ledger(database_url, "queue") as ledger:
        ledger.record(call(a=b"1"))
    assert connection.execute("select count(*) from ai_asking").fetchone() == (0,)


def test_who_hangs_while_asking_is_waited_for_no_longer(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("matching_pipeline.providers.ledger.OTHERS_PATIENCE_SECONDS", 0.5)
    answers: Given = {b"a": Answer(b"1", 1, 0)}
    with Ledger(database_url, "one") as one, Ledger(database_url, "other") as other:

        def hang(missing: list[bytes]) -> Given:
            assert other.answers("m", missing, lambda missing: answers) == answers
            return answers

        assert one.answers("m", [b"a"], hang) == answers


def test_a_process_that_lost_its_session_is_still_asking(connection: Connection, database_url: str) -> None:
    with Ledger(database_url, "one") as one, Ledger(database_url, "other") as other:
        got: list[Given] = []
        waiting = Thread(target=lambda: got.append(other.answers("m", [b"a"], unasked)))

        def ask(missing: list[bytes]) -> Given:
            connection.execute("select pg_terminate_backend(asker, 5000) from ai_asking")
            one.record(call(b=b"0"))
            waiting.start()
            waiting.join(0.5)
            one.record(call(a=b"1"))
            return {b"a": Answer(b"1", 1, 0)}

        one.answers("m", [b"a"], ask)
        waiting.join()
        assert got == [{b"a": Answer(b"1", 1, 0)}]


def test_a_session_that_could_not_be_opened_whole_is_not_used(
    connection: Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    names: list[str] = []

    def half(name: str) -> object:
        names.append(name)
        if names.count("open_ledger") == 1 and name == "open_ledger":
            raise psycopg.OperationalError("it is cancelled")
        return query(name)

    monkeypatch.setattr("matching_pipeline.providers.ledger.query", half)
    with Ledger(database_url, "queue") as ledger:
        ledger.record(call(a=b"1"))
    assert names[:2] == ["open_ledger"] * 2


def test_a_figure_that_makes_no_sense_is_refused(connection: Connection) -> None:
    with pytest.raises(psycopg.errors.CheckViolation, match="ai_calls_failed_says_why"):
        connection.execute(
            "insert into ai_calls (lane, model, items, milliseconds, outcome) values ('l', 'm', 1, 1, 'refused')"
        )
