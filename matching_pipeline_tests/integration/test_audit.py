"""The audit finds each planted fault, its repair removes the fault, and it finds none in a clean system."""

from uuid import UUID

import pytest

from matching_pipeline.db.connections import Connection
from matching_pipeline.handlers.matches import MatchHandler
from matching_pipeline.matches import projects, rebuilds
from matching_pipeline.matches.audit import audit, repair
from matching_pipeline.queues.worker import Worker
from matching_pipeline_tests.fixtures.app import App
from matching_pipeline_tests.integration.marketplace import Marketplace
from matching_pipeline_tests.integration.school import School

Found = dict[tuple[str, str], int]


@pytest.fixture
def market(connection: Connection, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Marketplace:
    """Three projects, in two ranges, that match three products each; a woman and two men, who match, in one school,
    and a couple in another; a posting with its embedding, and two models that are retired. The queue is empty."""
    monkeypatch.setitem(rebuilds.SIZES, projects.KIND, 2)
    market, school = Marketplace(connection), School(connection, database_url)
    for n in range(3):
        market.add_image("project", market.add("project"), (1, n / 9, 0))
        market.add_image("product", market.add("product"), (1, n / 5, 0), ["red"])
    for gender, n, name in (("female", 0, "UIT"), ("male", 1, "UIT"), ("male", 2, "UIT"), ("female", 0, "HUST")):
        school.face_of(gender, (1.0, n / 5), name)
    school.face_of("male", (1.0,), "HUST")
    Worker(database_url, MatchHandler()).run()
    school.process()
    connection.execute(
        """insert into embedding_models values ('words', 'text', 2, 'active'), ('old', 'text', 2, 'retired'),
            ('former', 'image', 3, 'retired')"""
    )
    connection.execute("insert into jobs (title) values ('Baker')")
    connection.execute(
        """insert into job_embeddings (job_id, model, dimensions, embedding, input_hash)
        select job_id, 'words', 2, '[1,0]', input_hash from source_postings"""
    )
    connection.execute("delete from job_queue")
    return market


def plant(connection: Connection, *faults: str) -> None:
    """As if the pipeline itself had done it: no trigger sees the lost pairs, and the queue stays empty."""
    with connection.transaction():
        connection.execute("select set_config('matching_pipeline.publishing', 'on', true)")
        for fault in faults:
            connection.execute(fault.encode())
        connection.execute("delete from job_queue")


def found(connection: Connection) -> Found:
    return {(fault.table, fault.what): fault.rows for fault in audit(connection).faults}


@pytest.mark.usefixtures("market")
def test_it_finds_no_fault_in_a_clean_system(connection: Connection) -> None:
    assert audit(connection) == ([], {})


PLANTED: list[tuple[list[str], Found]] = [
    (
        ["delete from matches where kind = 'project' and rank = 2"],
        {("matches of projects", "missing"): 3},
    ),
    (
        ["update matches set similarity = similarity - 0.001 where rank = 1"],
        {("matches of projects", "stale"): 3},
    ),
    (
        ["update matches set rank = rank + 1 where kind = 'project'"],
        {("matches of projects", "stale"): 9},
    ),
    (
        ["update match_settings set match_limit = 1 where kind = 'project'"],
        {("matches of projects", "orphaned"): 6},
    ),
    (
        ["alter table listings disable trigger user", "update listings set type = 'offer'"],
        {("matches of projects", "orphaned"): 9, ("image_ai", "orphaned"): 3},
    ),
    (
        ["update matches set model = 'former' where rank = 1"],
        {("matches of projects", "mixed-model"): 3},
    ),
    (
        ["delete from matches where kind = 'face' and similarity = 1"],
        {("matches of faces", "missing"): 1},
    ),
    (
        ["update matches set rank_for_a = 5 where kind = 'face'"],
        {("matches of faces", "stale"): 3},
    ),
    (
        ["update match_settings set threshold = 0.99 where kind = 'face'"],
        {("matches of faces", "orphaned"): 2},
    ),
    (
        ["alter table profiles disable trigger user", "update profiles set school = 'PTIT' where gender = 'female'"],
        {("matches of faces", "orphaned"): 3},
    ),
    (
        ["alter table profiles disable trigger user", "update profiles set profile_type = 'celebrity'"],
        {("matches of faces", "orphaned"): 3},
    ),
    (
        ["update matches set model = 'given' where kind = 'face'"],
        {("matches of faces", "mixed-model"): 3},
    ),
    (
        ["insert into product_images (product_id, src) select id, 'file:///lost' from products"],
        {("image_ai", "missing"): 3},
    ),
    (
        ["alter table listing_images disable trigger user", "update listing_images set image_url = 'file:///new'"],
        {("image_ai", "stale"): 3},
    ),
    (
        [
            """insert into image_ai
                (source, image_id, model, dimensions, embedding, image_url, content_hash, thumbnail)
            select source, image_id, 'former', 3, embedding, image_url, content_hash, thumbnail from image_ai"""
        ],
        {("image_ai", "mixed-model"): 6},
    ),
    (
        ["insert into jobs (title) values ('Cook')"],
        {("job_embeddings", "missing"): 1},
    ),
    (
        ["update jobs set title = 'Cook'"],
        {("job_embeddings", "stale"): 1},
    ),
    (
        ["alter table jobs disable trigger user", "update jobs set is_active = false"],
        {("job_embeddings", "orphaned"): 1},
    ),
    (
        [
            """insert into job_embeddings (job_id, model, dimensions, embedding, input_hash)
            select job_id, 'old', 2, embedding, input_hash from job_embeddings"""
        ],
        {("job_embeddings", "mixed-model"): 1},
    ),
]


@pytest.mark.usefixtures("market")
@pytest.mark.parametrize(("faults", "expected"), PLANTED, ids=["-".join(next(iter(each))) for _, each in PLANTED])
def test_planted_faults_are_found_and_repaired(connection: Connection, faults: list[str], expected: Found) -> None:
    before = pairs(connection)
    plant(connection, *faults)
    stored = pairs(connection)
    assert found(connection) == expected

    list(repair(connection, audit(connection)))
    assert found(connection) == {}
    # a row that is only wrong is corrected in its place
    after = pairs(connection)
    assert {pair: after[pair] for pair in after.keys() & stored.keys()}.items() <= before.items()
    (queued,) = connection.execute("select count(*) from job_queue where queue in ('image_ai', 'job_embeddings')")
    unmade = (n for (table, what), n in expected.items() if "matches" not in table and what in ("missing", "stale"))
    assert queued == (sum(unmade),)


def pairs(connection: Connection) -> dict[tuple[UUID, UUID], UUID]:
    """By pair, the id of its row."""
    rows = connection.execute(
        "select coalesce(project_id, face_a_id), coalesce(product_id, face_b_id), id from matches"
    )
    return {(one, other): id for one, other, id in rows}


@pytest.mark.usefixtures("market")
def test_without_a_repair_it_writes_nothing(connection: Connection) -> None:
    plant(connection, "delete from matches where rank = 1", "insert into jobs (title) values ('Cook')")
    before = everything(connection)
    assert audit(connection).faults
    assert everything(connection) == before


def everything(connection: Connection) -> list[object]:
    """Every row, with the transaction that wrote it."""
    return [
        connection.execute(f"select xmin::text, t::text from {table} as t order by 2".encode()).fetchall()
        for table in ("matches", "image_ai", "job_embeddings", "job_queue", "embedding_models", "rebuilds")
    ]


@pytest.mark.usefixtures("market")
def test_it_names_the_first_rows_as_they_should_be_and_the_jobs_that_wait(connection: Connection) -> None:
    (row,) = connection.execute(
        "select project_id, product_id, rank, similarity from matches where rank = 2 order by project_id limit 1"
    ).fetchall()
    plant(connection, "delete from matches where rank = 2", "insert into jobs (title) values ('Cook')")
    connection.execute("select enqueue_missing()")
    (fault,), waiting = audit(connection)
    assert fault.columns == ("project", "product", "rank", "similarity")
    assert fault.first[0] == (*row[:3], f"{row[3]:.6f}")
    assert waiting == {"job_embeddings": 1}


def test_a_row_whose_job_waits_or_failed_is_not_missing(connection: Connection) -> None:
    app = App(connection)
    app.product_image(app.product())
    app.run("insert into jobs (title) values ('Baker')")
    assert found(connection) == {}
    app.run("update job_queue set status = 'failed', completed_at = now(), error_message = 'broken'")
    assert found(connection) == {}
    app.settle()
    assert found(connection) == {("image_ai", "missing"): 1, ("job_embeddings", "missing"): 1}
