"""Another model takes the place of the active one beside readers, workers and the app."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import pytest

from matching_pipeline.db.connections import Connection, connect
from matching_pipeline.db.transactions import snapshot
from matching_pipeline.handlers.texts import TextHandler
from matching_pipeline.matches.comparison import compare
from matching_pipeline.models import activation
from matching_pipeline.models.activation import ModelChangeRefused, Options
from matching_pipeline.queues.progress import Summary
from matching_pipeline.queues.worker import QueueWorker
from matching_pipeline_tests.fixtures.postings import JobBoard, LetterEmbedder
from matching_pipeline_tests.integration.marketplace import PROJECT
from matching_pipeline_tests.integration.models.conftest import (
    COLORS,
    LOCAL_IMAGE,
    LOCAL_TEXT,
    TEXT,
    VISION,
    Market,
    Work,
    add,
    models_of,
    statuses,
)


def test_a_reader_always_sees_all_of_one_model(market: Market, work: Work, database_url: str) -> None:
    connection = market.connection
    market.open()
    jobs = [market.post(title) for title in ("Baker", "Baker early", "Nurse")]
    work("image_ai"), work("matches_project"), work("job_embeddings")
    done = Event()
    expected = {}

    def search(session: Connection) -> tuple[float, ...]:
        rows = session.execute(b"select similarity from find_similar_jobs(%s)", (jobs[0],)).fetchall()
        return tuple(similarity for (similarity,) in rows)

    reads = [0, 0]

    def read(reader: int) -> tuple[set[Any], set[Any]]:
        pairs, neighbours = set(), set()
        with connect(database_url) as session:
            while not done.is_set():
                pairs.add(tuple(session.execute(b"select model, count(*) from matches group by model").fetchall()))
                neighbours.add(search(session))
                reads[reader] += 1
        return pairs, neighbours

    def let_both_read() -> None:
        before = [*reads]
        while not all(now > then + 1 for now, then in zip(reads, before, strict=True)):
            assert not any(reader.done() for reader in readers)
            time.sleep(0.01)

    expected[LOCAL_TEXT] = search(connection)
    with ThreadPoolExecutor() as threads:
        readers = [threads.submit(read, reader) for reader in range(2)]
        add(connection, VISION), add(connection, TEXT)
        work("image_ai_shadow"), work("job_embeddings_shadow")
        for _ in range(3):
            activation.activate(connection, VISION), activation.activate(connection, TEXT)
            expected[TEXT] = search(connection)
            let_both_read()
            activation.activate(connection, LOCAL_IMAGE), activation.activate(connection, LOCAL_TEXT)
            let_both_read()
        done.set()
        for reader in readers:
            pairs, neighbours = reader.result()
            assert pairs == {((LOCAL_IMAGE, 16),), ((VISION, 16),)}
            assert neighbours == set(expected.values())


def run_across_an_activation(database_url: str, embedder: LetterEmbedder) -> Summary:
    """The embedder's `before` activates."""
    with TextHandler(embedder, "job_embeddings") as handler:
        return QueueWorker(database_url, handler).run()


def test_a_worker_that_runs_across_the_activation_writes_nothing_and_loses_nothing(
    board: JobBoard, database_url: str
) -> None:
    connection = board.connection

    def activate(texts: Sequence[str]) -> None:
        activation.activate(connection, "other")

    old, new = LetterEmbedder(activate), LetterEmbedder()
    new.model = "other"
    board.run(
        "insert into matching_pipeline.embedding_models "
        "values ('letters', 'text', 3, 'active'), ('other', 'text', 3, 'shadow')"
    )
    job = board.post("Baker")
    summary = run_across_an_activation(database_url, old)
    assert "letters is not the active model now" in summary.stopped_because
    assert (summary.completed, summary.counts["snoozed"]) == (0, 1)
    assert models_of(connection, "job_embeddings") == {}
    assert board.run("select queue from job_queue where entity_id = %s and status = 'pending'", job) != []
    assert set(board.run("select attempts - snoozes from job_queue")) == {0}
    for embedder, queue in ((new, "job_embeddings"), (LetterEmbedder(), "job_embeddings_shadow")):
        with TextHandler(embedder, queue) as handler:
            assert QueueWorker(database_url, handler).run().completed == 1
    assert models_of(connection, "job_embeddings") == {"letters": 1, "other": 1}


def test_while_an_activation_is_under_way_workers_release_their_jobs(board: JobBoard, database_url: str) -> None:
    board.run("insert into matching_pipeline.embedding_models values ('letters', 'text', 3, 'active')")
    board.post("Baker")
    with connect(database_url) as other, other.transaction():
        other.execute(b"select from matching_pipeline.embedding_models for no key update")
        with TextHandler(LetterEmbedder(), "job_embeddings") as handler:
            summary = QueueWorker(database_url, handler).run()
    assert (summary.completed, summary.counts["snoozed"]) == (0, 1)
    assert board.run("select error_message from job_queue") == ["another model is being activated"]


@pytest.mark.parametrize("way", ["insert", "edit"])
def test_a_transaction_that_is_open_across_the_activation_enqueues_for_both(
    board: JobBoard, work: Work, database_url: str, way: str
) -> None:
    job = board.post("Baker")
    work("job_embeddings")
    add(board.connection, TEXT)
    work("job_embeddings_shadow")
    board.settle()
    with connect(database_url) as session, session.transaction():
        app = JobBoard(session)
        if way == "insert":
            job = app.post("Cook")
        else:
            app.run("update jobs set title = 'Cook' where id = %s", job)
        activation.activate(board.connection, TEXT)
    assert board.queue_rows() == {(queue, "posting", job) for queue in ("job_embeddings", "job_embeddings_shadow")}


def test_jobs_stay_with_the_model_that_they_are_for(board: JobBoard, work: Work) -> None:
    board.post("Baker")
    work("job_embeddings")
    add(board.connection, TEXT)
    work("job_embeddings_shadow")
    bad = board.post("Nurse")
    board.run("delete from matching_pipeline.jobs where queue = 'job_embeddings_shadow' or key <> %s", str(bad))
    board.fail(bad)
    activation.activate(board.connection, TEXT)
    assert board.queue_rows() == {("job_embeddings_shadow", "posting", bad)}
    assert board.run("select id from embedding_queue") == []


def test_an_image_that_is_deleted_as_the_model_changes_is_in_no_pair(
    market: Market, work: Work, database_url: str
) -> None:
    market.open()
    work("image_ai"), work("matches_project")
    add(market.connection, VISION)
    work("image_ai_shadow")
    (image,) = market.run("select id from product_images limit 1")

    def delete_slowly() -> None:
        with connect(database_url) as session, session.transaction():
            session.execute("delete from product_images where id = %s", (image,))
            deleted.set()
            time.sleep(0.5)

    deleted = Event()
    with ThreadPoolExecutor() as threads:
        deletion = threads.submit(delete_slowly)
        deleted.wait()
        activation.activate(market.connection, VISION)
        deletion.result()
    work("matches_project")
    assert models_of(market.connection, "matches") == {VISION: 12}
    again = PROJECT.rebuild(market.connection)
    assert (again.added, again.changed, again.removed) == (0, 0, 0)


def test_of_two_activations_at_once_one_is_refused(market: Market, work: Work, database_url: str) -> None:
    market.open()
    work("image_ai"), work("matches_project")
    add(market.connection, VISION)
    work("image_ai_shadow")

    def activate(_: int) -> bool:
        with connect(database_url) as session:
            try:
                activation.activate(session, VISION)
            except ModelChangeRefused as refusal:
                assert f"{VISION} is active, not a shadow" in str(refusal)
                return False
            return True

    with ThreadPoolExecutor() as threads:
        assert sorted(threads.map(activate, range(2))) == [False, True]
    assert statuses(market.connection) == {VISION: "active", LOCAL_IMAGE: "shadow"}
    assert models_of(market.connection, "matches") == {VISION: 16}


def test_entities_of_two_sources_with_equal_keys_count_apart(market: Market, work: Work) -> None:
    connection = market.connection
    market.run("""update matching_pipeline.matchers set declaration = declaration || '{"lists": "both"}'""")
    for color in COLORS[:2]:
        listing, url = market.listing(), market.picture(color)
        market.run("insert into products (id) values (%s)", listing)
        market.listing_image(listing, url), market.product_image(listing, url)
    work("image_ai"), work("matches_project")
    add(connection, VISION)
    with pytest.raises(ModelChangeRefused, match=r"4 of the 4 entities .* would lose all"):
        activation.activate(connection, VISION, Options(force=True))
    work("image_ai_shadow")
    (matching,) = activation.matchings_of(connection, "image", 100)
    with snapshot(connection):
        compared = compare(connection, matching, VISION)
    assert compared is not None
    assert (compared.lists, compared.found.with_pairs, compared.found.emptied) == (4, 4, 0)


def test_an_activation_in_the_middle_of_a_backfill_loses_nothing_and_asks_once(
    board: JobBoard, database_url: str
) -> None:
    """The shadow's worker runs: some texts are embedded, one is asked for, and others wait."""
    board.run(
        "insert into matching_pipeline.embedding_models "
        "values ('letters', 'text', 3, 'active'), ('other', 'text', 3, 'shadow')"
    )
    titles = [f"{name} {number}" for number in range(3) for name in ("Baker", "Cook")]
    for title in titles:
        board.post(title)
    run_across_an_activation(database_url, LetterEmbedder())

    def activate(texts: Sequence[str]) -> None:
        if len(new.requests) == 3:
            activation.activate(board.connection, "other", Options(force=True))

    new = LetterEmbedder(activate, batch_items=1, concurrency=1)
    new.model = "other"
    with TextHandler(new, "job_embeddings_shadow") as handler:
        handler.batch_size = 2
        summary = QueueWorker(database_url, handler).run()
    assert summary.stopped_because
    done = models_of(board.connection, "job_embeddings").get("other", 0)
    assert done < 6
    new = LetterEmbedder()
    new.model = "other"
    # a job that met the activation is due after some seconds
    board.run("update matching_pipeline.jobs set run_at = now() where status = 'pending'")
    for embedder, queue, left in ((new, "job_embeddings", 6 - done), (LetterEmbedder(), "job_embeddings_shadow", 0)):
        with TextHandler(embedder, queue) as handler:
            assert QueueWorker(database_url, handler).run().completed == left
    assert models_of(board.connection, "job_embeddings") == {"letters": 6, "other": 6}
    assert set(board.run("select attempts - snoozes from job_queue")) == {1}


def test_the_thresholds_change_with_the_model(market: Market, work: Work) -> None:
    market.open()
    work("image_ai"), work("matches_project")
    add(market.connection, VISION)
    work("image_ai_shadow")
    market.settle()
    with pytest.raises(ModelChangeRefused, match="no matcher face compares images"):
        activation.activate(market.connection, VISION, Options(thresholds={"face": 0.1}))
    turn = (
        "update matching_pipeline.embeddings "
        "set embedding = array(select -value from unnest(embedding::real[]) as value)::vector "
        "where model = %s and source = 'product'"
    )
    market.run(turn, VISION)
    with pytest.raises(ModelChangeRefused, match="4 of the 4 entities that have matches by the matcher project"):
        activation.activate(market.connection, VISION, Options(thresholds={"project": 0.99}))
    assert len(market.pairs()) == 16
    market.run(turn, VISION)
    activation.activate(market.connection, VISION, Options(thresholds={"project": 0.99}))
    assert len(market.pairs()) == 4
    assert market.queue_rows() == set()
    settings = "select threshold from matching_pipeline.match_settings where matcher = 'project' order by model"
    assert market.run(settings) == [0.99, -1.0]
