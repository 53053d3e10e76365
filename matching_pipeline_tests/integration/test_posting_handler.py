"""The handler of postings against a real database: requests, results, and changes meanwhile."""

import hashlib
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Event

import numpy as np
import pytest

from matching_pipeline.db.connections import Connection, connect
from matching_pipeline.errors import (
    ConfigurationError,
    ModelSwitched,
    PermanentFailure,
    ProviderUnavailable,
    TransientFailure,
)
from matching_pipeline.handlers.registry import process_due
from matching_pipeline.handlers.texts import TextHandler
from matching_pipeline.models.registry import hold_role
from matching_pipeline.providers.local.text import LocalTextEmbedder
from matching_pipeline.queues.handler import Outcome
from matching_pipeline.queues.worker import QueueWorker
from matching_pipeline.settings import Settings
from matching_pipeline_tests.conftest import EXAMPLES
from matching_pipeline_tests.fixtures.postings import JobBoard, LetterEmbedder, direction, work_postings


@pytest.fixture
def board(connection: Connection) -> JobBoard:
    return JobBoard(connection)


def test_a_row_says_which_text_was_embedded_by_which_model(board: JobBoard, database_url: str) -> None:
    job = board.post(" Baker ", company="", description="Bread, early\n")
    process_due(Settings(), database_url, EXAMPLES, "job_embeddings")
    ((embedding, *rest),) = board.connection.execute(
        "select embedding, job_id, model, dimensions, input_hash from job_embeddings"
    ).fetchall()
    text = b"Baker\n\nBread, early"
    assert rest == [job, LocalTextEmbedder.model, LocalTextEmbedder.dimensions, hashlib.sha256(text).digest()]
    assert np.linalg.norm(embedding.to_numpy()) == pytest.approx(1)
    assert board.status(job) == ("completed", None)


def test_equal_texts_are_asked_once_in_a_batch_and_across_runs(board: JobBoard, database_url: str) -> None:
    first = {board.post("Baker") for _ in range(3)}
    embedder = LetterEmbedder()
    work_postings(database_url, embedder)
    second = {board.post(" Baker"), board.post(None, company="Baker")}
    work_postings(database_url, embedder)
    assert embedder.requests == [["Baker"]]
    assert board.embedded() == first | second
    assert board.run("select count(distinct embedding) from job_embeddings") == [1]


def test_another_models_embedding_is_not_taken_for_its_own(board: JobBoard, database_url: str) -> None:
    board.post("Baker")
    work_postings(database_url)
    board.run("update matching_pipeline.embedding_models set status = 'retired'")
    other = LetterEmbedder()
    other.model = "other"
    board.post("Baker")
    work_postings(database_url, other)
    assert other.requests == [["Baker"]]


def test_a_request_holds_no_more_than_its_limits(board: JobBoard, database_url: str) -> None:
    for number in range(7):
        board.post(f"two words {number}")
    board.post("and one posting that is longer than what a whole request may hold")
    embedder = LetterEmbedder(batch_items=4, batch_tokens=9, concurrency=1)
    work_postings(database_url, embedder)
    assert [len(request) for request in embedder.requests] == [3, 3, 1, 1]
    assert len(board.embedded()) == 8


def test_requests_run_at_once_and_a_slow_one_does_not_hold_up_the_others(board: JobBoard, database_url: str) -> None:
    slow, *others = [board.post(title) for title in ("slow", "a", "e", "o")]
    seen = Event()

    def before(texts: Sequence[str]) -> None:
        if "slow" in texts:
            assert seen.wait(30)

    with ThreadPoolExecutor(1) as threads:
        embedder = LetterEmbedder(before, batch_items=1)
        summary = threads.submit(work_postings, database_url, embedder)
        deadline = time.monotonic() + 20
        while board.embedded() != set(others):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        seen.set()
        assert summary.result().completed == 4
    assert slow in board.embedded()


def test_leases_are_renewed_while_a_request_is_slow(
    board: JobBoard, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("matching_pipeline.handlers.texts.TextHandler.lease", timedelta(seconds=3))
    monkeypatch.setattr("matching_pipeline.handlers.texts.PATIENCE_SECONDS", 0.1)
    board.post()
    go_on = Event()
    embedder = LetterEmbedder(lambda texts: go_on.wait(30))
    with ThreadPoolExecutor(1) as threads:
        slow = threads.submit(work_postings, database_url, embedder)
        # the first lease has run out
        while board.run("select count(*) from job_queue where started_at < now() - interval '4 seconds'") != [1]:
            assert not slow.done()
            time.sleep(0.05)
        assert work_postings(database_url, embedder).completed == 0
        go_on.set()
        assert slow.result().completed == 1
    assert len(embedder.requests) == 1


@pytest.mark.parametrize(
    "error",
    [ProviderUnavailable("it is down", timedelta(minutes=5)), ConfigurationError("the key is refused")],
)
def test_an_error_that_stops_one_request_keeps_the_answers_of_the_others_and_counts_no_attempt(
    board: JobBoard, database_url: str, error: Exception
) -> None:
    posted = [board.post(title) for title in ("early", "slow", "down", "never asked")]
    down = Event()

    def before(texts: Sequence[str]) -> None:
        if texts == ["slow"]:
            assert down.wait(30)
            time.sleep(0.2)
        if texts == ["down"]:
            down.set()
            raise error

    embedder = LetterEmbedder(before, batch_items=1)
    with pytest.raises(type(error), match=str(error)):
        work_postings(database_url, embedder)
    # the last request may have begun before the handler saw the stop
    assert set(posted[:2]) <= board.embedded() <= {*posted[:2], posted[3]}
    assert set(board.run("select attempts - snoozes from job_queue where status = 'pending'")) == {0}


@pytest.mark.parametrize(
    ("answer", "status", "reason"),
    [
        (PermanentFailure("the text is refused"), "failed", "the text is refused"),
        (TransientFailure("no luck"), "pending", "no luck"),
        (np.array([np.nan, 0, 1], dtype=np.float32), "pending", "embedding of length nan"),
        (np.zeros(3, dtype=np.float32), "pending", "embedding of length 0"),
        (np.ones(4, dtype=np.float32), "pending", "embeddings_model_fkey"),
    ],
)
def test_one_bad_answer_in_a_batch_fails_its_posting_only(
    board: JobBoard, database_url: str, answer: object, status: str, reason: str
) -> None:
    good, bad = {board.post(f"good {number}") for number in range(9)}, board.post("bad")
    work_postings(database_url, LetterEmbedder(answer=lambda text: answer if text == "bad" else direction(text)))  # type: ignore[arg-type, return-value]
    assert board.embedded() == good
    is_now, message = board.status(bad)
    assert (is_now, reason in (message or "")) == (status, True), message


def test_a_wrong_number_of_answers_or_a_bug_counts_an_attempt_and_is_tried_again(
    board: JobBoard, database_url: str
) -> None:
    class Miscounting(LetterEmbedder):
        def embed(self, texts: Sequence[str]) -> list[object]:  # type: ignore[override]
            if texts == ["bug"]:
                raise RuntimeError("out of memory")
            return []

    short, bug = board.post("short"), board.post("bug")
    work_postings(database_url, Miscounting(batch_items=1))  # type: ignore[arg-type]
    assert board.status(short) == ("pending", "letters gave 0 answers to 1 texts")
    assert board.status(bug) == ("pending", "RuntimeError: out of memory")


@pytest.mark.parametrize("title", [None, "", " \n\t", "\u00a0\u3000 \u200b\ufeff"])
def test_a_posting_without_text_is_an_entity_without_embedding(
    board: JobBoard, database_url: str, title: str | None
) -> None:
    job = board.post("Baker")
    embedder = LetterEmbedder()
    work_postings(database_url, embedder)
    board.run("update jobs set title = %s, company = ' ', description = null", title)
    work_postings(database_url, embedder)
    assert (board.embedded(), embedder.requests) == (set(), [["Baker"]])
    assert board.run("select key from matching_pipeline.entities where source = 'posting'") == [str(job)]
    assert board.run("select distinct status from matching_pipeline.jobs") == ["completed"]
    board.run("update jobs set title = 'Baker'")
    assert board.queued() == {job}


def test_odd_texts_are_embedded(board: JobBoard, database_url: str) -> None:
    odd = {board.post(text) for text in ("👩‍🍳 пекарь", "x" * 100_000, "'; drop table jobs; --", "%s %(a)s \\", "1")}
    summary = process_due(Settings(), database_url, EXAMPLES, "job_embeddings")
    assert (summary.completed, board.embedded()) == (5, odd)


def test_where_the_text_is_edited_meanwhile_the_newer_wins(board: JobBoard, database_url: str) -> None:
    board.post("old")

    def edit(texts: Sequence[str]) -> None:
        if texts == ["old"]:
            board.run("update jobs set title = 'new'")

    embedder = LetterEmbedder(edit)
    work_postings(database_url, embedder)
    assert embedder.requests == [["old"], ["new"]]
    assert board.run("select input_hash = sha256('new') from job_embeddings") == [True]
    assert board.run("select status from job_queue") == ["completed"] * 2


@pytest.mark.parametrize(
    "statement", ["delete from jobs", "update jobs set is_active = false", "truncate jobs cascade"]
)
@pytest.mark.parametrize("moment", ["queued", "embedding"])
def test_where_a_posting_goes_meanwhile_nothing_is_left(
    board: JobBoard, database_url: str, statement: str, moment: str
) -> None:
    board.post()

    def act(texts: Sequence[str] = ()) -> None:
        board.run(statement)

    if moment == "queued":
        act()
    summary = work_postings(database_url, LetterEmbedder(act))
    assert summary.counts["failed"] == 0
    assert board.embedded() == set()
    assert board.run("select key from matching_pipeline.jobs where kind = 'entity'") == []


def test_a_posting_that_goes_and_comes_back_meanwhile_is_embedded_once_more(
    board: JobBoard, database_url: str
) -> None:
    job = board.post("old")

    def flicker(texts: Sequence[str]) -> None:
        if texts == ["old"]:
            board.run("update jobs set is_active = false")
            board.run("update jobs set is_active = true, title = 'new'")

    embedder = LetterEmbedder(flicker)
    work_postings(database_url, embedder)
    assert embedder.requests == [["old"], ["new"]]
    assert board.embedded() == {job}
    assert board.run("select status from job_queue") == ["completed"] * 2


@pytest.mark.parametrize(
    "statement", ["update jobs set is_active = false", "delete from jobs", "update jobs set id = gen_random_uuid()"]
)
def test_a_posting_that_goes_while_its_result_is_being_written_keeps_no_result(
    board: JobBoard, database_url: str, statement: str
) -> None:
    """The worker's transaction has locked job and entity. The app does not wait for it: a job erases the result."""
    job, acted = board.post("Baker"), list[str]()
    began = time.monotonic()

    class Acting(TextHandler):
        def write(self, connection: Connection, outcomes: Sequence[Outcome]) -> None:
            super().write(connection, outcomes)
            if not acted:
                acted.append(statement)
                board.run(statement)

    with Acting(LetterEmbedder(), "job_embeddings") as handler:
        QueueWorker(database_url, handler).run()
    assert time.monotonic() - began < 5
    board.run("update matching_pipeline.jobs set run_at = now() where status in ('pending', 'processing')")
    work_postings(database_url)
    assert job not in board.embedded()
    assert str(job) not in board.run("select key from matching_pipeline.entities")


@pytest.mark.parametrize("commits", [True, False])
def test_a_worker_does_not_wait_for_an_open_transaction_of_the_app_nor_the_app_for_it(
    board: JobBoard, database_url: str, commits: bool
) -> None:
    job, other = board.post("Baker"), board.post("Cook")
    with connect(database_url) as app, app.transaction(force_rollback=not commits):

        def deactivate(texts: Sequence[str]) -> None:
            began = time.monotonic()
            app.execute("update jobs set is_active = false where id = %s", (job,))
            assert time.monotonic() - began < 5

        assert work_postings(database_url, LetterEmbedder(deactivate)).completed == 2
        assert board.embedded() == {job, other}
    work_postings(database_url)
    assert board.embedded() == ({other} if commits else {job, other})


@pytest.mark.parametrize("failure", [PermanentFailure("refused"), TransientFailure("no luck")])
def test_an_outdated_embedding_is_deleted_when_the_edited_posting_fails_and_a_current_one_stays(
    board: JobBoard, database_url: str, failure: Exception
) -> None:
    edited, same = board.post("old"), board.post("same")
    work_postings(database_url)
    board.run("update jobs set title = 'new' where id = %s", edited)
    work_postings(database_url, LetterEmbedder(answer=lambda text: failure))  # type: ignore[arg-type, return-value]
    assert board.embedded() == {same}


def test_the_first_text_model_becomes_active_beside_an_image_model_and_no_other_may_follow(
    board: JobBoard,
) -> None:
    board.run("insert into matching_pipeline.embedding_models values ('seen', 'image', 3, 'active')")
    embedder, other = LetterEmbedder(), LetterEmbedder()
    other.model = "other"
    hold_role(board.connection, embedder, "job_embeddings")
    hold_role(board.connection, embedder, "job_embeddings")
    with pytest.raises(ModelSwitched, match="other is not the active model"):
        hold_role(board.connection, other, "job_embeddings")
