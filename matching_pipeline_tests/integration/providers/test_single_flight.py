"""Single flight between threads and processes: an answer is asked for once, whatever is lost meanwhile."""

from datetime import timedelta
from threading import Thread

import psycopg
import pytest

from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import query
from matching_pipeline.errors import ProviderUnavailable, TransientFailure
from matching_pipeline.providers import single_flight
from matching_pipeline.providers.answer_cache import Answer
from matching_pipeline.providers.single_flight import AnswersByHash
from matching_pipeline_tests.integration.conftest import until
from matching_pipeline_tests.integration.providers.conftest import Asker, OpenAsker

ONE: AnswersByHash = {b"a": Answer(b"1", 1, 0)}
TWO: AnswersByHash = {b"a": Answer(b"2", 1, 0)}


def unasked(missing: list[bytes]) -> AnswersByHash:
    raise AssertionError(f"asked for {missing}")


def test_a_thread_that_waits_for_another_gets_its_failure_too(open_asker: OpenAsker) -> None:
    asker = open_asker()
    seen: list[object] = []

    def wait_for_the_other() -> None:
        try:
            asker.answers("m", [b"a"], unasked)
        except ProviderUnavailable as error:
            seen.append(error)

    waiting = Thread(target=wait_for_the_other)

    def ask(missing: list[bytes]) -> AnswersByHash:
        waiting.start()
        waiting.join(0.2)
        raise ProviderUnavailable("it is down", timedelta(seconds=1))

    with pytest.raises(ProviderUnavailable):
        asker.answers("m", [b"a"], ask)
    waiting.join()
    assert len(seen) == 1
    # and no thread is left that counts as asking
    failure = TransientFailure("odd")
    assert asker.answers("m", [b"a"], lambda missing: {b"a": failure}) == {b"a": failure}


def test_each_model_has_its_own_answers(open_asker: OpenAsker) -> None:
    asker = open_asker()
    asker.record(a=b"1")
    assert asker.answers("another", [b"a"], lambda missing: TWO) == TWO


def test_a_process_waits_for_the_answer_of_another(open_asker: OpenAsker) -> None:
    one, other = open_asker(), open_asker()
    got: list[AnswersByHash] = []
    waiting = Thread(target=lambda: got.append(other.answers("m", [b"a"], unasked)))

    def ask(missing: list[bytes]) -> AnswersByHash:
        waiting.start()
        waiting.join(0.5)
        assert not got
        one.record(a=b"1")
        return ONE

    one.answers("m", [b"a"], ask)
    waiting.join()
    assert got == [ONE]


def test_two_processes_share_the_inputs_that_both_want(open_asker: OpenAsker, connection: Connection) -> None:
    """In opposite orders: neither may wait while it holds inputs."""
    asked: list[list[bytes]] = []

    def answer(asker: Asker, wanted: list[bytes]) -> None:
        def ask(missing: list[bytes]) -> AnswersByHash:
            asked.append(missing)
            asker.record(**{name.decode(): b"1" for name in missing})
            return {name: Answer(b"1", 1, 0) for name in missing}

        assert len(asker.answers("m", wanted, ask)) == len(wanted)

    names = [f"{number:03}".encode() for number in range(200)]
    wanted = names[:150], names[50:][::-1]
    sides = [Thread(target=answer, args=(open_asker(), side)) for side in wanted]
    for side in sides:
        side.start()
    for side in sides:
        side.join()
    assert sorted(name for names in asked for name in names) == names
    assert connection.execute("select count(*) from matching_pipeline.ai_asking").fetchone() == (0,)


def test_an_answer_that_another_process_failed_to_get_is_asked_for_again(open_asker: OpenAsker) -> None:
    one, other = open_asker(), open_asker()
    got: list[AnswersByHash] = []
    waiting = Thread(target=lambda: got.append(other.answers("m", [b"a"], lambda missing: TWO)))

    def ask(missing: list[bytes]) -> AnswersByHash:
        waiting.start()
        waiting.join(0.3)
        raise ProviderUnavailable("it is down", timedelta(seconds=1))

    with pytest.raises(ProviderUnavailable):
        one.answers("m", [b"a"], ask)
    waiting.join()
    assert got == [TWO]


def end_session_of_asker(connection: Connection) -> None:
    """The session of the process whose request is under way."""
    connection.execute(
        "select pg_terminate_backend(pid, 5000) from pg_locks where locktype = 'advisory' "
        "and classid::bigint = matching_pipeline.claimer_lock()::bigint & x'ffffffff'::bigint "
        "and objid in (select asker::bigint from matching_pipeline.ai_asking)"
    )


def let_ten_seconds_pass(connection: Connection) -> None:
    connection.execute("update matching_pipeline.ai_asking set gone_at = gone_at - interval '10 seconds'")


def test_an_answer_that_a_dead_process_asked_for_is_asked_for_again_after_ten_seconds(
    open_asker: OpenAsker, connection: Connection
) -> None:
    dead, alive = open_asker(), open_asker()
    got: list[AnswersByHash] = []
    waiting = Thread(target=lambda: got.append(alive.answers("m", [b"a"], lambda missing: TWO)))

    def ask(missing: list[bytes]) -> AnswersByHash:
        end_session_of_asker(connection)
        waiting.start()
        until(connection, "exists (select from matching_pipeline.ai_asking where gone_at is not null)")
        waiting.join(0.3)
        assert not got
        let_ten_seconds_pass(connection)
        waiting.join()
        assert got == [TWO]
        return TWO

    assert dead.answers("m", [b"a"], ask) == TWO


def test_the_rows_of_dead_processes_are_removed(open_asker: OpenAsker, connection: Connection) -> None:
    connection.execute("insert into matching_pipeline.ai_asking (model, input_hash, asker) values ('m', 'a', 99)")
    open_asker().record(a=b"1")
    assert connection.execute("select count(*) from matching_pipeline.ai_asking").fetchone() == (1,)
    let_ten_seconds_pass(connection)
    open_asker().record(a=b"1")
    assert connection.execute("select count(*) from matching_pipeline.ai_asking").fetchone() == (0,)


def test_a_process_that_hangs_while_asking_is_waited_for_no_longer(
    open_asker: OpenAsker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(single_flight, "PATIENCE_SECONDS", 0.5)
    one, other = open_asker(), open_asker()

    def hang(missing: list[bytes]) -> AnswersByHash:
        assert other.answers("m", missing, lambda missing: ONE) == ONE
        return ONE

    assert one.answers("m", [b"a"], hang) == ONE


def test_a_process_that_lost_its_session_is_still_asking(open_asker: OpenAsker, connection: Connection) -> None:
    one, other = open_asker(), open_asker()
    got: list[AnswersByHash] = []
    waiting = Thread(target=lambda: got.append(other.answers("m", [b"a"], unasked)))

    def ask(missing: list[bytes]) -> AnswersByHash:
        end_session_of_asker(connection)
        waiting.start()
        until(connection, "exists (select from matching_pipeline.ai_asking where gone_at is not null)")
        one.record(b=b"0")
        let_ten_seconds_pass(connection)
        waiting.join(0.5)
        assert not got
        one.record(a=b"1")
        return ONE

    one.answers("m", [b"a"], ask)
    waiting.join()
    assert got == [ONE]


def test_a_session_that_could_not_be_opened_whole_is_not_used(
    open_asker: OpenAsker, monkeypatch: pytest.MonkeyPatch
) -> None:
    names: list[str] = []

    def half(name: str) -> object:
        names.append(name)
        if names == ["mark_gone_askers"]:
            raise psycopg.OperationalError("it is cancelled")
        return query(name)

    monkeypatch.setattr(single_flight, "query", half)
    open_asker().record(a=b"1")
    assert names[:2] == ["mark_gone_askers"] * 2
