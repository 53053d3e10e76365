"""A model takes another's place: it fills beside the active one, and readers see one of them, never some of each."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any
from uuid import UUID

import pytest

from matching_pipeline import lanes
from matching_pipeline.ai.providers import WorkingModel
from matching_pipeline.db.connections import Connection, connect
from matching_pipeline.drain import Drain, Summary
from matching_pipeline.settings import Settings
from matching_pipeline.stages import models
from matching_pipeline.stages.matching import rebuild
from matching_pipeline.stages.models import ModelError
from matching_pipeline.stages.postings import PostingStage
from matching_pipeline.stages.requests import forget_orphans
from matching_pipeline_tests.fixtures.openai_server import KEY, openai_server
from matching_pipeline_tests.fixtures.pictures import PictureServer, picture
from matching_pipeline_tests.fixtures.postings import JobBoard, LetterEmbedder

LOCAL_IMAGE, LOCAL_TEXT = "local-visual-1", "local-words-1"
TEXT = "text-embedding-3-small:64"
VISION = f"gpt-6-luna/describe-1/{TEXT}"
COLORS = ("red", "green", "blue", "black", "white", "orange")

DrainLane = Callable[[str], Summary]


@pytest.fixture
def drain(database_url: str) -> Iterator[DrainLane]:
    """Drains a lane with local providers by the settings, and the stand-in for models of OpenAI."""
    with openai_server() as server:
        settings = Settings(
            image_analyzer="local",
            text_embedder="local",
            openai_api_key=KEY,
            openai_base_url=server.url,
            image_allow_private_hosts=True,
        )
        yield lambda lane: lanes.drain(settings, database_url, lane)


@pytest.fixture
def board(connection: Connection) -> JobBoard:
    return JobBoard(connection)


@pytest.fixture
def market(connection: Connection) -> Iterator["Market"]:
    with PictureServer() as pictures:
        yield Market(connection, pictures)
        pictures.shutdown()


class Market(JobBoard):
    """Pictures of one colour each; every project lists every product."""

    def __init__(self, connection: Connection, pictures: PictureServer) -> None:
        super().__init__(connection)
        self.pictures = pictures
        self.run("update match_settings set threshold = -1 where kind = 'project'")

    def picture(self, color: str) -> str:
        return self.pictures.put(f"/{color}", picture(color))

    def open(self, count: int = 4) -> None:
        for color in COLORS[:count]:
            self.listing_image(self.listing(), self.picture(color))
            self.product_image(self.product(), self.picture(color))

    def pairs(self) -> list[Any]:
        return self.connection.execute(
            "select project_id, product_id, similarity, rank from matches order by project_id, rank"
        ).fetchall()


def add(connection: Connection, name: str, dimensions: int = 64) -> int:
    return models.add(connection, WorkingModel(name, dimensions), "text" if name == TEXT else "image")[1]


def statuses(connection: Connection) -> dict[str, str]:
    return {model.name: model.status for model, _ in models.standings(connection)}


def models_of(connection: Connection, table: str) -> dict[str, int]:
    return dict(connection.execute(f"select model, count(*) from {table} group by model".encode()).fetchall())


def test_an_image_model_fills_is_activated_and_goes_back_and_is_retired(market: Market, drain: DrainLane) -> None:
    connection = market.connection
    market.open()
    drain("image_ai"), drain("matches")
    before = market.pairs()
    assert models_of(connection, "matches") == {LOCAL_IMAGE: 16}

    assert add(connection, VISION) == 8
    with pytest.raises(ModelError, match=f"{VISION} lacks 8 of the images"):
        models.activate(connection, VISION)
    assert drain("image_ai_shadow").completed == 8
    assert models_of(connection, "image_ai") == {LOCAL_IMAGE: 8, VISION: 8}
    assert market.run("select count(*) from job_queue where status = 'pending'") == [0]
    assert market.pairs() == before

    figures = models.activate(connection, VISION)
    assert figures.lists == 4
    assert statuses(connection) == {VISION: "active", LOCAL_IMAGE: "shadow"}
    assert models_of(connection, "matches") == {VISION: 16}
    assert market.pairs() != before
    again = rebuild(connection)
    assert (again.added, again.changed, again.removed) == (0, 0, 0)

    models.activate(connection, LOCAL_IMAGE)
    assert (market.pairs(), models_of(connection, "matches")) == (before, {LOCAL_IMAGE: 16})
    assert models.retire(connection, VISION) == 8
    assert statuses(connection) == {LOCAL_IMAGE: "active", VISION: "retired"}
    assert models_of(connection, "image_ai") == {LOCAL_IMAGE: 8}
    assert market.run("select count(*) from job_queue where queue = 'image_ai_shadow'") == [0]
    assert add(connection, VISION) == 8


def test_a_text_model_fills_and_the_search_follows_the_active_one(board: JobBoard, drain: DrainLane) -> None:
    connection = board.connection
    jobs = [board.post(title) for title in ("Baker", "Baker early", "Nurse")]
    search = "select similarity from find_similar_jobs(%s)"
    drain("job_embeddings")
    before = board.run(search, jobs[0])
    assert add(connection, TEXT) == 3
    drain("job_embeddings_shadow")
    assert board.run(search, jobs[0]) == before
    models.activate(connection, TEXT)
    assert len(board.run(search, jobs[0])) == 2
    assert board.run(search, jobs[0]) != before
    models.activate(connection, LOCAL_TEXT)
    assert board.run(search, jobs[0]) == before
    models.retire(connection, TEXT)
    assert models_of(connection, "job_embeddings") == {LOCAL_TEXT: 3}


def test_what_comes_changes_and_goes_while_a_shadow_stands_reaches_both(market: Market, drain: DrainLane) -> None:
    connection = market.connection
    market.open(1)
    job = market.post("Baker")
    drain("image_ai"), drain("job_embeddings")
    add(connection, VISION), add(connection, TEXT)
    drain("image_ai_shadow"), drain("job_embeddings_shadow")
    market.settle()

    image, other = market.product_image(market.product(), market.picture("blue")), market.post("Cook")
    market.run("update jobs set title = 'Nurse' where id = %s", job)
    owed = {(lane, entity) for lane, _, entity in market.owed()}
    both = ("image_ai", "image_ai_shadow"), ("job_embeddings", "job_embeddings_shadow")
    assert owed == {(lane, image) for lane in both[0]} | {(lane, id) for lane in both[1] for id in (job, other)}
    for lane in (*both[0], *both[1]):
        drain(lane)
    assert models_of(connection, "image_ai") == {LOCAL_IMAGE: 3, VISION: 3}
    assert models_of(connection, "job_embeddings") == {LOCAL_TEXT: 2, TEXT: 2}
    hashes = market.run("select count(distinct input_hash) from job_embeddings where job_id = %s", job)
    assert hashes == [1]

    market.run("update product_images set src = %s where id = %s", market.picture("black"), image)
    market.run("update jobs set title = 'Smith' where id = %s", other)
    market.run("delete from product_images where id = %s", image)
    market.run("delete from jobs where id = %s", other)
    assert models_of(connection, "image_ai") == {LOCAL_IMAGE: 2, VISION: 2}
    assert models_of(connection, "job_embeddings") == {LOCAL_TEXT: 1, TEXT: 1}
    assert not {entity for _, _, entity in market.owed()} & {image, other}


def test_a_text_that_one_of_the_two_lacks_is_owed_to_both(board: JobBoard, drain: DrainLane) -> None:
    job = board.post("Baker")
    drain("job_embeddings")
    add(board.connection, TEXT)
    board.settle()
    board.run("update jobs set title = 'Cook' where id = %s", job)
    board.settle()
    board.run("update jobs set title = 'Baker' where id = %s", job)
    assert board.owed() == {(lane, "posting", job) for lane in ("job_embeddings", "job_embeddings_shadow")}


def test_a_reader_never_sees_nothing_nor_some_of_each(market: Market, drain: DrainLane, database_url: str) -> None:
    connection = market.connection
    market.open()
    jobs = [market.post(title) for title in ("Baker", "Baker early", "Nurse")]
    drain("image_ai"), drain("matches"), drain("job_embeddings")
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
        drain("image_ai_shadow"), drain("job_embeddings_shadow")
        for _ in range(3):
            models.activate(connection, VISION), models.activate(connection, TEXT)
            expected[TEXT] = search(connection)
            let_both_read()
            models.activate(connection, LOCAL_IMAGE), models.activate(connection, LOCAL_TEXT)
            let_both_read()
        done.set()
        for reader in readers:
            pairs, neighbours = reader.result()
            assert pairs == {((LOCAL_IMAGE, 16),), ((VISION, 16),)}
            assert neighbours == set(expected.values())


def drain_open_across_an_activation(board: JobBoard, database_url: str, embedder: LetterEmbedder) -> Summary:
    """The embedder's `before` activates."""
    with PostingStage(embedder) as stage:
        return Drain(database_url, stage).run()


def test_a_drain_that_is_open_across_the_activation_writes_nothing_and_loses_nothing(
    board: JobBoard, database_url: str
) -> None:
    connection = board.connection

    def activate(texts: Sequence[str]) -> None:
        models.activate(connection, "other")

    old, new = LetterEmbedder(activate), LetterEmbedder()
    new.model = "other"
    board.run("insert into embedding_models values ('letters', 'text', 3, 'active'), ('other', 'text', 3, 'shadow')")
    job = board.post("Baker")
    summary = drain_open_across_an_activation(board, database_url, old)
    assert "letters is not the active model now" in summary.stopped_because
    assert (summary.completed, summary.counts["deferred"]) == (0, 1)
    assert models_of(connection, "job_embeddings") == {}
    assert board.run("select queue from job_queue where entity_id = %s and status = 'pending'", job) != []
    assert set(board.run("select attempts - deferrals from job_queue")) == {0}
    for embedder, lane in ((new, "job_embeddings"), (LetterEmbedder(), "job_embeddings_shadow")):
        with PostingStage(embedder, lane) as stage:
            assert Drain(database_url, stage).run().completed == 1
    assert models_of(connection, "job_embeddings") == {"letters": 1, "other": 1}


def test_while_an_activation_is_under_way_drains_give_their_items_back(board: JobBoard, database_url: str) -> None:
    board.run("insert into embedding_models values ('letters', 'text', 3, 'active')")
    board.post("Baker")
    with connect(database_url) as other, other.transaction():
        other.execute(b"select from embedding_models for no key update")
        with PostingStage(LetterEmbedder()) as stage:
            summary = Drain(database_url, stage).run()
    assert (summary.completed, summary.counts["deferred"]) == (0, 1)
    assert board.run("select error_message from job_queue") == ["another model is being activated"]


@pytest.mark.parametrize("way", ["insert", "edit"])
def test_work_of_a_transaction_that_is_open_across_the_activation_is_owed_to_both(
    board: JobBoard, drain: DrainLane, database_url: str, way: str
) -> None:
    job = board.post("Baker")
    drain("job_embeddings")
    add(board.connection, TEXT)
    drain("job_embeddings_shadow")
    board.settle()
    with connect(database_url) as session, session.transaction():
        app = JobBoard(session)
        if way == "insert":
            job = app.post("Cook")
        else:
            app.run("update jobs set title = 'Cook' where id = %s", job)
        models.activate(board.connection, TEXT)
    assert board.owed() == {(lane, "posting", job) for lane in ("job_embeddings", "job_embeddings_shadow")}


def test_the_work_that_is_owed_goes_with_its_model(board: JobBoard, drain: DrainLane) -> None:
    board.post("Baker")
    drain("job_embeddings")
    add(board.connection, TEXT)
    drain("job_embeddings_shadow")
    bad = board.post("Nurse")
    board.run("delete from job_queue where queue = 'job_embeddings_shadow' or entity_id <> %s", bad)
    board.fail(bad)
    models.activate(board.connection, TEXT)
    assert board.owed() == {("job_embeddings_shadow", "posting", bad)}
    assert board.run("select id from embedding_queue") == []


def test_an_image_that_is_deleted_as_the_model_changes_is_in_no_pair(
    market: Market, drain: DrainLane, database_url: str
) -> None:
    market.open()
    drain("image_ai"), drain("matches")
    add(market.connection, VISION)
    drain("image_ai_shadow")
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
        models.activate(market.connection, VISION)
        deletion.result()
    drain("matches")
    assert models_of(market.connection, "matches") == {VISION: 12}
    again = rebuild(market.connection)
    assert (again.added, again.changed, again.removed) == (0, 0, 0)


def test_of_two_activations_at_once_one_is_refused(market: Market, drain: DrainLane, database_url: str) -> None:
    market.open()
    drain("image_ai"), drain("matches")
    add(market.connection, VISION)
    drain("image_ai_shadow")

    def activate(_: int) -> bool:
        with connect(database_url) as session:
            try:
                models.activate(session, VISION)
            except ModelError as refusal:
                assert f"{VISION} is active, no shadow" in str(refusal)
                return False
            return True

    with ThreadPoolExecutor() as threads:
        assert sorted(threads.map(activate, range(2))) == [False, True]
    assert statuses(market.connection) == {VISION: "active", LOCAL_IMAGE: "shadow"}
    assert models_of(market.connection, "matches") == {VISION: 16}


def test_what_lacks_is_refused_unless_forced(market: Market, drain: DrainLane) -> None:
    market.open(2)
    drain("image_ai"), drain("matches")
    add(market.connection, VISION)
    with pytest.raises(ModelError, match=r"lacks 4 of the images.*retry image_ai_shadow --all.*--force"):
        models.activate(market.connection, VISION)
    assert statuses(market.connection) == {LOCAL_IMAGE: "active", VISION: "shadow"}
    models.activate(market.connection, VISION, force=True)
    assert market.pairs() == []
    assert market.run("select distinct queue from job_queue where status = 'pending'") == ["image_ai"]
    drain("image_ai"), drain("matches")
    assert models_of(market.connection, "matches") == {VISION: 4}


def test_what_cannot_be_done_is_refused_with_the_reason(board: JobBoard, drain: DrainLane) -> None:
    connection = board.connection
    assert models.add(connection, WorkingModel(LOCAL_TEXT, 384), "text") == ("active", 0)
    with pytest.raises(ModelError, match="is the active text model already"):
        models.add(connection, WorkingModel(LOCAL_TEXT, 384), "text")
    add(connection, TEXT)
    with pytest.raises(ModelError, match="is the shadow text model already"):
        add(connection, TEXT)
    with pytest.raises(ModelError, match=f"{TEXT} is filling as the shadow already: retire it first"):
        models.add(connection, WorkingModel("third:3", 3), "text")
    for action in (models.activate, models.retire):
        with pytest.raises(ModelError, match="is active, no shadow"):
            action(connection, LOCAL_TEXT)
        for unknown in ("unknown", "faces"):
            with pytest.raises(ModelError, match="there is no model"):
                action(connection, unknown)


def test_what_an_open_transaction_owed_to_a_shadow_that_was_retired_is_forgotten(
    board: JobBoard, drain: DrainLane, database_url: str
) -> None:
    board.post("Baker")
    drain("job_embeddings")
    for forget in (lambda: drain("job_embeddings_shadow"), lambda: forget_orphans(board.connection)):
        add(board.connection, TEXT)
        with connect(database_url) as session, session.transaction():
            late: UUID = JobBoard(session).post("Cook")
            models.retire(board.connection, TEXT)
        assert ("job_embeddings_shadow", "posting", late) in board.owed()
        forget()
        assert {lane for lane, *_ in board.owed()} == {"job_embeddings"}
