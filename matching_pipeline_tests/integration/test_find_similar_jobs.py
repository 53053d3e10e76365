"""`find_similar_jobs`: exact, by the active model, active postings only."""

import math
from collections.abc import Sequence
from uuid import UUID, uuid4

import numpy as np
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from matching_pipeline.db.connections import Connection
from matching_pipeline_tests.fixtures.postings import JobBoard, LetterEmbedder, work_postings

Vector = tuple[float, ...]


class SearchableBoard(JobBoard):
    """Postings whose embeddings are given."""

    def __init__(self, connection: Connection, dimensions: int = 2) -> None:
        super().__init__(connection)
        self.model("given", dimensions, "active")

    def model(self, name: str, dimensions: int, status: str) -> None:
        self.run(
            "insert into matching_pipeline.embedding_models (name, modality, dimensions, status) "
            "values (%s, 'text', %s, %s) on conflict do nothing",
            *(name, dimensions, status),
        )

    def add(self, direction: Sequence[float], model: str = "given", job: UUID | None = None) -> UUID:
        job = job or self.post()
        vector = [value / math.hypot(*direction) for value in direction]
        self.mirror(job)
        self.embed_text(job, model, str(vector))
        return job

    def embed_text(self, job: UUID, model: str, vector: str) -> None:
        self.run(
            "insert into matching_pipeline.embeddings (source, item, model, dimensions, embedding) "
            "select 'posting', %s, name, dimensions, %s from matching_pipeline.embedding_models where name = %s",
            *(job, vector, model),
        )

    def similar(self, *arguments: object) -> list[tuple[UUID, float]]:
        marks = ", ".join(["%s"] * len(arguments))
        return self.connection.execute(f"select * from find_similar_jobs({marks})".encode(), arguments).fetchall()


@pytest.fixture
def board(connection: Connection) -> SearchableBoard:
    return SearchableBoard(connection)


def test_the_nearest_come_first_without_the_posting_itself(board: SearchableBoard) -> None:
    own, far, near, opposite = (board.add(vector) for vector in ((1, 0), (0, 2), (3, 3), (-1, 0)))
    assert board.similar(own) == [(near, pytest.approx(math.sqrt(0.5))), (far, 0), (opposite, -1)]
    row = board.connection.execute("select job_id, similarity from find_similar_jobs(job => %s)", (own,)).fetchone()
    assert row == (near, pytest.approx(math.sqrt(0.5)))


def test_ten_are_found_unless_another_number_is_asked_for(board: SearchableBoard) -> None:
    own, *_ = [board.add((1, 1)) for _ in range(13)]
    for asked, found in (((), 10), ((3,), 3), ((20,), 12), ((0,), 0), ((-1,), 0), ((None,), 10)):
        assert len(board.similar(own, *asked)) == found


def test_ties_come_by_id(board: SearchableBoard) -> None:
    own, *others = [board.add((1, 1)) for _ in range(5)]
    assert [job for job, _ in board.similar(own)] == sorted(others)


def test_what_is_inactive_is_neither_found_nor_has_neighbours(board: SearchableBoard, database_url: str) -> None:
    own, other = board.add((1, 0)), board.add((1, 0))
    board.run("update jobs set is_active = false where id = %s", other)
    embedder = LetterEmbedder()
    embedder.model, embedder.dimensions = "given", 2
    work_postings(database_url, embedder)
    for job in (own, other, uuid4(), None):
        assert board.similar(job) == []


def test_models_are_never_mixed_and_only_the_active_one_is_asked(board: SearchableBoard) -> None:
    own, other = board.add((1, 0)), board.add((1, 0))
    board.model("shadow", 3, "shadow")
    only_shadow = board.post()
    for job in (own, only_shadow):
        board.add((1, 0, 0), "shadow", job)
    assert board.similar(own) == [(other, 1)]
    assert board.similar(only_shadow) == []
    with board.connection.transaction():
        board.run("update matching_pipeline.embedding_models set status = 'retired' where name = 'given'")
        board.run("update matching_pipeline.embedding_models set status = 'active' where name = 'shadow'")
    assert board.similar(own) == [(only_shadow, 1)]


@pytest.mark.parametrize(
    ("vector", "error"),
    [
        ("[0,0]", psycopg.errors.CheckViolation),
        ("[1,0,0]", psycopg.errors.CheckViolation),
        ("[NaN,0]", psycopg.errors.DataException),
    ],
)
def test_a_vector_that_has_no_cosine_or_other_dimensions_cannot_be_stored(
    board: SearchableBoard, vector: str, error: type[psycopg.Error]
) -> None:
    job = board.post()
    board.mirror(job)
    with pytest.raises(error):
        board.embed_text(job, "given", vector)


components = st.sampled_from([-2.0, -1.0, -0.5, 0.25, 1.0, 3.0])
vectors = st.lists(st.tuples(components, components, components), min_size=1, max_size=12)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(vectors=vectors, count=st.integers(1, 12))
def test_it_finds_what_a_plain_loop_finds(connection: Connection, vectors: list[Vector], count: int) -> None:
    board = SearchableBoard(connection, 3)
    board.run("truncate jobs cascade")
    own, *others = [(board.add(vector), vector) for vector in vectors]

    def cosine(one: Vector, other: Vector) -> float:
        return float(np.dot(one, other) / (np.linalg.norm(one) * np.linalg.norm(other)))

    expected = sorted((cosine(own[1], vector) for _, vector in others), reverse=True)[:count]
    found = board.similar(own[0], count)
    assert [similarity for _, similarity in found] == pytest.approx(expected, abs=1e-6)
    by_id = dict(others)
    assert all(similarity == pytest.approx(cosine(own[1], by_id[job]), abs=1e-6) for job, similarity in found)


def test_a_search_reads_the_embeddings_once_and_no_posting(board: SearchableBoard) -> None:
    board.model("shadow", 2, "shadow")
    board.run(
        "insert into jobs (title, description) select 'Baker', repeat('Bread', 99) from generate_series(1, 5000)"
    )
    for copied in (
        "entities (source, id, key) select 'posting', id, id::text from jobs",
        "items (source, id, entity, key) select 'posting', id, id, id::text from jobs",
        "embeddings (source, item, model, dimensions, embedding) select 'posting', id, 'given', 2, "
        "array[sin(n), cos(n)]::float4[]::vector from (select id, row_number() over () as n from jobs) as numbered",
    ):
        board.run(f"insert into matching_pipeline.{copied}")
    board.run("vacuum analyze jobs, matching_pipeline.items, matching_pipeline.embeddings")
    (own,) = board.run("select id from jobs limit 1")
    board.run("select pg_stat_force_next_flush()")
    with board.connection.transaction():
        assert len(board.similar(own)) == 10
        ((scans,),) = board.connection.execute(
            "select coalesce(sum(seq_scan), 0) from pg_stat_xact_user_tables where relid = 'public.jobs'::regclass"
        ).fetchall()
        ((read,),) = board.connection.execute(
            "select seq_scan + idx_scan from pg_stat_xact_user_tables "
            "where relid = 'matching_pipeline.embeddings'::regclass"
        ).fetchall()
    assert (scans, read) == (0, 2)
