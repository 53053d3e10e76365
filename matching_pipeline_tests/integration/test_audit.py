"""The audit finds each planted fault, its repair removes the fault, and it finds none in a clean system."""

from collections.abc import Sequence
from uuid import UUID

import pytest

from matching_pipeline.db.connections import Connection
from matching_pipeline.matches import matching
from matching_pipeline.matches.audit import Report, audit, repair
from matching_pipeline.queues.handler import Outcome
from matching_pipeline.queues.worker import QueueWorker
from matching_pipeline.sources.items import write_mirror
from matching_pipeline_tests.conftest import EXAMPLES, NewTemplate
from matching_pipeline_tests.integration.marketplace import GivenImages, Marketplace
from matching_pipeline_tests.integration.school import School

Found = dict[tuple[str, str], int]


@pytest.fixture(scope="session")
def template(new_template: NewTemplate) -> str:
    return new_template("audited", fill)


def fill(connection: Connection, database_url: str) -> None:
    """Three projects that match three products each; a woman and two men, who match, in one school, and a couple in
    another; a posting with its embedding, and two models that are retired. The queue is empty."""
    market, school = Marketplace(connection), School(connection, database_url)
    for n in range(3):
        market.add_image("project", market.add("project"), (1, n / 9, 0))
        market.add_image("product", market.add("product"), (1, n / 5, 0), ["red"])
    for gender, n, name in (("female", 0, "UIT"), ("male", 1, "UIT"), ("male", 2, "UIT"), ("female", 0, "HUST")):
        school.face_of(gender, (1.0, n / 5), name)
    school.face_of("male", (1.0,), "HUST")
    connection.execute(
        """insert into matching_pipeline.embedding_models values
            ('words', 'text', 2, 'active'), ('old', 'text', 2, 'retired'),
            ('former', 'image', 3, 'retired')"""
    )
    connection.execute("insert into jobs (title) values ('Baker')")
    work(connection, database_url)
    connection.execute("delete from matching_pipeline.jobs")


@pytest.fixture(autouse=True)
def two_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    """The three projects are in two parts of a rebuild."""
    monkeypatch.setattr(matching, "SHARD_ENTITIES", 2)


class GivenTexts(GivenImages):
    """As the handler of texts, with one embedding for all."""

    def write(self, connection: Connection, outcomes: Sequence[Outcome]) -> None:
        for _, row in write_mirror(connection, self.queue, outcomes, is_text=True):
            connection.execute(
                """insert into matching_pipeline.embeddings (source, item, model, dimensions, embedding, input_hash)
                select source, id, 'words', 2, '[1,0]', content_hash from matching_pipeline.items
                where source = 'posting' and key = %s
                on conflict (source, item, model) do update set input_hash = excluded.input_hash""",
                (row.item_key,),
            )


def work(connection: Connection, database_url: str) -> None:
    """Works off all queues."""
    Marketplace(connection).process(database_url)
    School(connection, database_url).process()
    QueueWorker(database_url, GivenTexts("job_embeddings")).run()


def plant(connection: Connection, *faults: str) -> None:
    """As if the pipeline itself had done it: no trigger sees the lost pairs, and the queue stays empty."""
    with connection.transaction():
        connection.execute("select set_config('matching_pipeline.skip_matching', 'on', true)")
        for fault in faults:
            connection.execute(fault.encode())
        connection.execute("delete from matching_pipeline.jobs")


def found(connection: Connection) -> Found:
    return named(audit(connection, EXAMPLES))


def named(audited: Report) -> Found:
    return {(fault.table, fault.what): fault.rows for fault in audited.faults}


def test_it_finds_no_fault_in_a_clean_system(connection: Connection) -> None:
    assert audit(connection, EXAMPLES) == ([], {})


PLANTED: list[tuple[list[str], Found]] = [
    (
        ["delete from matching_pipeline.matches where matcher = 'project' and left_rank = 2"],
        {("matches of project", "missing"): 3},
    ),
    (
        [
            "update matching_pipeline.matches set similarity = similarity - 0.001 "
            "where matcher = 'project' and left_rank = 1"
        ],
        {("matches of project", "stale"): 3},
    ),
    (
        ["update matching_pipeline.matches set left_rank = left_rank + 1 where matcher = 'project'"],
        {("matches of project", "stale"): 9},
    ),
    (
        ["update matching_pipeline.match_settings set top = 1 where matcher = 'project'"],
        {("matches of project", "orphaned"): 6},
    ),
    (
        ["alter table listings disable trigger user", "update listings set type = 'offer'"],
        {("mirror of project", "orphaned"): 3},
    ),
    (
        ["update matching_pipeline.matches set model = 'former' where matcher = 'project' and left_rank = 1"],
        {("matches of project", "mixed-model"): 3},
    ),
    (
        ["delete from matching_pipeline.matches where matcher = 'face' and similarity = 1"],
        {("matches of face", "missing"): 1},
    ),
    (
        ["update matching_pipeline.matches set left_rank = 5 where matcher = 'face'"],
        {("matches of face", "stale"): 3},
    ),
    (
        ["update matching_pipeline.match_settings set threshold = 0.99 where matcher = 'face'"],
        {("matches of face", "orphaned"): 2},
    ),
    (
        ["alter table profiles disable trigger user", "update profiles set school = 'PTIT' where gender = 'female'"],
        {("mirror of face", "stale"): 2},
    ),
    (
        ["alter table profiles disable trigger user", "update profiles set profile_type = 'celebrity'"],
        {("mirror of face", "orphaned"): 5},
    ),
    (
        ["alter table faces disable trigger user", "delete from faces where id = (select id from faces limit 1)"],
        {("mirror of face", "orphaned"): 1},
    ),
    (
        ["update matching_pipeline.matches set model = 'given' where matcher = 'face'"],
        {("matches of face", "mixed-model"): 3},
    ),
    (
        ["insert into product_images (product_id, src) select id, 'given:1,0,0;' from products"],
        {("mirror of product", "missing"): 3},
    ),
    (
        ["alter table listing_images disable trigger user", "update listing_images set image_url = 'given:0,1,0;'"],
        {("mirror of project", "stale"): 3},
    ),
    (
        ["alter table listing_images disable trigger user", "delete from listing_images"],
        {("mirror of project", "orphaned"): 3},
    ),
    (
        ["delete from matching_pipeline.embeddings where source = 'product'"],
        {("image_ai", "missing"): 3, ("matches of project", "orphaned"): 9},
    ),
    (
        ["update matching_pipeline.embeddings set input = 'given:0,1,0;' where source = 'project'"],
        {("image_ai", "stale"): 3},
    ),
    (
        [
            """insert into matching_pipeline.embeddings (source, item, model, dimensions, embedding, input)
            select source, item, 'former', 3, embedding, input
            from matching_pipeline.embeddings where model = 'given'"""
        ],
        {("image_ai", "mixed-model"): 6},
    ),
    (
        ["insert into jobs (title) values ('Cook')"],
        {("mirror of posting", "missing"): 1},
    ),
    (
        ["update jobs set title = 'Cook'"],
        {("mirror of posting", "stale"): 1},
    ),
    (
        ["update matching_pipeline.embeddings set input_hash = '' where source = 'posting'"],
        {("job_embeddings", "stale"): 1},
    ),
    (
        ["alter table jobs disable trigger user", "update jobs set is_active = false"],
        {("mirror of posting", "orphaned"): 1},
    ),
    (
        [
            """insert into matching_pipeline.embeddings (source, item, model, dimensions, embedding, input_hash)
            select source, item, 'old', 2, embedding, input_hash
            from matching_pipeline.embeddings where model = 'words'"""
        ],
        {("job_embeddings", "mixed-model"): 1},
    ),
]


@pytest.mark.parametrize(("faults", "expected"), PLANTED, ids=["-".join(next(iter(each))) for _, each in PLANTED])
def test_planted_faults_are_found_and_repaired(
    connection: Connection, database_url: str, faults: list[str], expected: Found
) -> None:
    before = pairs(connection)
    plant(connection, *faults)
    stored = pairs(connection)
    audited = audit(connection, EXAMPLES)
    assert named(audited) == expected

    list(repair(connection, EXAMPLES, audited))
    # the jobs that wait explain the other differences
    assert not {table for table, _ in found(connection)} - {f"matches of {name}" for name in unsettled(connection)}
    work(connection, database_url)
    assert found(connection) == {}
    if ("image_ai", "missing") in expected:
        return
    # a row that is only wrong is corrected in its place
    after = pairs(connection)
    assert {pair: after[pair] for pair in after.keys() & stored.keys()}.items() <= before.items()


def unsettled(connection: Connection) -> set[str]:
    """The matchers whose sources have jobs, which may change what is to be matched."""
    rows = connection.execute(
        "select distinct name from matching_pipeline.matchers "
        "join matching_pipeline.jobs on source in (left_source, right_source)"
    )
    return {name for (name,) in rows}


def pairs(connection: Connection) -> dict[tuple[UUID, UUID], UUID]:
    """By pair, the id of its row."""
    rows = connection.execute("select left_id, right_id, id from matching_pipeline.matches")
    return {(one, other): id for one, other, id in rows}


def test_without_a_repair_it_writes_nothing(connection: Connection) -> None:
    plant(
        connection,
        "delete from matching_pipeline.matches where left_rank = 1",
        "insert into jobs (title) values ('Cook')",
    )
    before = everything(connection)
    assert audit(connection, EXAMPLES).faults
    assert everything(connection) == before


def everything(connection: Connection) -> list[object]:
    """Every row, with the transaction that wrote it."""
    return [
        connection.execute(f"select xmin::text, t::text from {table} as t order by 2".encode()).fetchall()
        for table in (
            *(
                "matching_pipeline.matches",
                "matching_pipeline.entities",
                "matching_pipeline.items",
                "matching_pipeline.jobs",
            ),
            *("matching_pipeline.embeddings", "matching_pipeline.embedding_models", "matching_pipeline.rebuilds"),
        )
    ]


def test_it_names_the_first_rows_as_they_should_be_and_the_jobs_that_wait(connection: Connection) -> None:
    (row,) = connection.execute(
        "select project_id, product_id, rank, similarity from matches where rank = 2 order by project_id limit 1"
    ).fetchall()
    plant(connection, "delete from matching_pipeline.matches where left_rank = 2 and matcher = 'project'")
    connection.execute("insert into jobs (title) values ('Cook')")
    (fault,), waiting = audit(connection, EXAMPLES)
    assert fault.columns == ("left", "right", "rank", "similarity")
    assert fault.first[0] == (str(row[0]), str(row[1]), row[2], f"{row[3]:.6f}")
    assert waiting == {"job_embeddings": 1}
