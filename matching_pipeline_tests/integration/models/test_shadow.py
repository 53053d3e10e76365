"""A model embeds beside the active one, takes its place, goes back and is retired, or is refused with the reason."""

from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest

from matching_pipeline.db.connections import connect
from matching_pipeline.models import activation
from matching_pipeline.models.activation import ModelChangeRefused, Options
from matching_pipeline.providers.factory import WorkingModel
from matching_pipeline.providers.protocols import FLOAT16
from matching_pipeline.sources.orphans import delete_orphan_rows
from matching_pipeline_tests.fixtures.postings import JobBoard
from matching_pipeline_tests.integration.conftest import until
from matching_pipeline_tests.integration.marketplace import PROJECT
from matching_pipeline_tests.integration.models.conftest import (
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


def test_an_image_model_embeds_is_activated_and_goes_back_and_is_retired(market: Market, work: Work) -> None:
    connection = market.connection
    market.open()
    work("image_ai"), work("matches_project")
    before = market.pairs()
    assert models_of(connection, "matches") == {LOCAL_IMAGE: 16}

    assert add(connection, VISION) == 8
    with pytest.raises(ModelChangeRefused, match=f"{VISION} lacks 8 of the images"):
        activation.activate(connection, VISION)
    assert work("image_ai_shadow").completed == 8
    assert models_of(connection, "image_ai") == {LOCAL_IMAGE: 8, VISION: 8}
    assert market.run("select count(*) from job_queue where status = 'pending'") == [0]
    assert market.pairs() == before

    figures = activation.activate(connection, VISION)
    assert figures.lists == 4
    assert statuses(connection) == {VISION: "active", LOCAL_IMAGE: "shadow"}
    assert models_of(connection, "matches") == {VISION: 16}
    assert market.pairs() != before
    again = PROJECT.rebuild(connection)
    assert (again.added, again.changed, again.removed) == (0, 0, 0)

    activation.activate(connection, LOCAL_IMAGE)
    assert (market.pairs(), models_of(connection, "matches")) == (before, {LOCAL_IMAGE: 16})
    assert activation.retire(connection, VISION) == 8
    assert statuses(connection) == {LOCAL_IMAGE: "active", VISION: "retired"}
    assert models_of(connection, "image_ai") == {LOCAL_IMAGE: 8}
    assert market.run("select count(*) from job_queue where queue = 'image_ai_shadow'") == [0]
    assert add(connection, VISION) == 8


def test_a_text_model_embeds_and_the_search_follows_the_active_one(board: JobBoard, work: Work) -> None:
    connection = board.connection
    jobs = [board.post(title) for title in ("Baker", "Baker early", "Nurse")]
    search = "select similarity from find_similar_jobs(%s)"
    work("job_embeddings")
    before = board.run(search, jobs[0])
    assert add(connection, TEXT) == 3
    work("job_embeddings_shadow")
    assert board.run(search, jobs[0]) == before
    activation.activate(connection, TEXT)
    assert len(board.run(search, jobs[0])) == 2
    assert board.run(search, jobs[0]) != before
    activation.activate(connection, LOCAL_TEXT)
    assert board.run(search, jobs[0]) == before
    activation.retire(connection, TEXT)
    assert models_of(connection, "job_embeddings") == {LOCAL_TEXT: 3}


def test_a_shadow_in_half_precision_takes_the_vectors_that_are_there(board: JobBoard, work: Work) -> None:
    connection, halved = board.connection, TEXT + FLOAT16
    jobs = [board.post(title) for title in ("Baker", "Baker early", "Nurse")]
    add(connection, TEXT)
    work("job_embeddings")
    search = "select similarity from find_similar_jobs(%s)"
    before, asked = board.run(search, jobs[0]), board.run("select id from matching_pipeline.ai_calls")
    board.run("delete from matching_pipeline.ai_answers")
    assert add(connection, halved) == 3
    assert work("job_embeddings_shadow").completed == 3
    assert board.run("select id from matching_pipeline.ai_calls") == asked
    activation.activate(connection, halved)
    after = board.run(search, jobs[0])
    assert after == pytest.approx(before, abs=1e-3)
    assert after != before
    kept = "select vector_dims(halves[1]) from matching_pipeline.embeddings where model = %s and embedding is null"
    assert board.run(kept, halved) == [64] * 3
    assert board.run("select vector_dims(embedding) from job_embeddings") == [64] * 6
    board.run("update jobs set title = 'Cook' where id = %s", jobs[1])
    work("job_embeddings")
    assert board.run(search, jobs[0]) != after


def test_inserts_edits_and_deletes_beside_a_shadow_reach_both(market: Market, work: Work) -> None:
    connection, halved = market.connection, VISION + FLOAT16
    market.open(1)
    job = market.post("Baker")
    work("image_ai"), work("job_embeddings")
    add(connection, halved), add(connection, TEXT)
    work("image_ai_shadow"), work("job_embeddings_shadow")
    market.settle()

    image, other = market.product_image(market.product(), market.picture("blue")), market.post("Cook")
    market.run("update jobs set title = 'Nurse' where id = %s", job)
    queued = {(queue, entity) for queue, _, entity in market.queue_rows()}
    both = ("image_ai", "image_ai_shadow"), ("job_embeddings", "job_embeddings_shadow")
    assert queued == {(queue, image) for queue in both[0]} | {(queue, id) for queue in both[1] for id in (job, other)}
    for queue in (*both[0], *both[1]):
        work(queue)
    assert models_of(connection, "image_ai") == {LOCAL_IMAGE: 3, halved: 3}
    assert models_of(connection, "job_embeddings") == {LOCAL_TEXT: 2, TEXT: 2}
    hashes = market.run("select count(distinct input_hash) from job_embeddings where job_id = %s", job)
    assert hashes == [1]

    vector = "select halves[1]::text from matching_pipeline.embeddings where item = %s and model = %s"
    before = market.run(vector, image, halved)
    market.run("update product_images set src = %s where id = %s", market.picture("black"), image)
    work("image_ai_shadow")
    assert market.run(vector, image, halved) != before
    market.run("update jobs set title = 'Smith' where id = %s", other)
    market.run("delete from product_images where id = %s", image)
    market.run("delete from jobs where id = %s", other)
    assert models_of(connection, "image_ai") == {LOCAL_IMAGE: 2, halved: 2}
    assert models_of(connection, "job_embeddings") == {LOCAL_TEXT: 1, TEXT: 1}
    assert not {entity for _, _, entity in market.queue_rows()} & {image, other}


def test_a_text_that_one_of_the_two_lacks_is_enqueued_for_both(board: JobBoard, work: Work) -> None:
    job = board.post("Baker")
    work("job_embeddings")
    add(board.connection, TEXT)
    board.settle()
    board.run("update jobs set title = 'Cook' where id = %s", job)
    board.settle()
    board.run("update jobs set title = 'Baker' where id = %s", job)
    assert board.queue_rows() == {(queue, "posting", job) for queue in ("job_embeddings", "job_embeddings_shadow")}


def test_a_model_that_lacks_rows_is_refused_unless_forced(market: Market, work: Work) -> None:
    market.open(2)
    work("image_ai"), work("matches_project")
    add(market.connection, VISION)
    with pytest.raises(ModelChangeRefused, match=r"lacks 4 of the images.*retry image_ai_shadow --all.*--force"):
        activation.activate(market.connection, VISION)
    assert statuses(market.connection) == {LOCAL_IMAGE: "active", VISION: "shadow"}
    with pytest.raises(ModelChangeRefused, match=r"2 of the 2 entities .* would lose all.*--accept-loss"):
        activation.activate(market.connection, VISION, Options(force=True))
    assert statuses(market.connection) == {LOCAL_IMAGE: "active", VISION: "shadow"}
    activation.activate(market.connection, VISION, Options(force=True, accept_loss=True))
    assert market.pairs() == []
    assert market.run("select distinct queue from job_queue where status = 'pending'") == ["image_ai"]
    work("image_ai"), work("matches_project")
    assert models_of(market.connection, "matches") == {VISION: 4}


def test_a_change_that_cannot_be_made_is_refused_with_the_reason(board: JobBoard) -> None:
    connection = board.connection
    assert activation.add(connection, WorkingModel(LOCAL_TEXT, 384), "text") == ("active", 0)
    with pytest.raises(ModelChangeRefused, match="is the active text model already"):
        activation.add(connection, WorkingModel(LOCAL_TEXT, 384), "text")
    add(connection, TEXT)
    with pytest.raises(ModelChangeRefused, match="is the shadow text model already"):
        add(connection, TEXT)
    with pytest.raises(ModelChangeRefused, match=f"{TEXT} is the shadow already: retire it first"):
        activation.add(connection, WorkingModel("third:3", 3), "text")
    for action in (activation.activate, activation.retire):
        with pytest.raises(ModelChangeRefused, match="is active, not a shadow"):
            action(connection, LOCAL_TEXT)
        for unknown in ("unknown", "faces"):
            with pytest.raises(ModelChangeRefused, match="there is no model"):
                action(connection, unknown)


def test_jobs_of_an_open_transaction_for_a_retired_shadow_are_forgotten(
    board: JobBoard, work: Work, database_url: str
) -> None:
    board.post("Baker")
    work("job_embeddings")
    for forget in (lambda: work("job_embeddings_shadow"), lambda: delete_orphan_rows(board.connection)):
        add(board.connection, TEXT)
        with connect(database_url) as session, session.transaction():
            late: UUID = JobBoard(session).post("Cook")
            activation.retire(board.connection, TEXT)
        assert ("job_embeddings_shadow", "posting", late) in board.queue_rows()
        forget()
        assert {queue for queue, *_ in board.queue_rows()} == {"job_embeddings"}


def test_a_model_is_retired_beside_an_erasure_of_the_app(market: Market, work: Work, database_url: str) -> None:
    market.open(2)
    work("image_ai")
    add(market.connection, VISION)
    work("image_ai_shadow")
    left = "(select count(*) from matching_pipeline.embeddings where model like 'gpt%') = 1"
    with connect(database_url) as session, connect(database_url) as other, ThreadPoolExecutor() as threads:
        with session.transaction():
            session.execute("delete from listings where id = (select id from listings limit 1)")
            retiring = threads.submit(activation.retire, other, VISION)
            until(market.connection, left)
            assert statuses(market.connection)[VISION] == "retired"
        assert retiring.result() == 3
    assert models_of(market.connection, "image_ai") == {LOCAL_IMAGE: 3}
