"""Words and pictures find what is near to them, in the command and in SQL."""

from pathlib import Path
from subprocess import CompletedProcess

import pytest

from matching_pipeline.models import activation
from matching_pipeline_tests.fixtures.command import run_command
from matching_pipeline_tests.fixtures.openai_server import KEY, openai_server
from matching_pipeline_tests.fixtures.pictures import picture
from matching_pipeline_tests.integration.marketplace import Marketplace
from matching_pipeline_tests.integration.models.conftest import LOCAL_IMAGE, VISION, Market, Work, add


def rows(printed: "CompletedProcess[str]", source: str) -> list[list[str]]:
    """The cells of the table of a source."""
    assert printed.returncode == 0, printed.stderr
    tables = printed.stdout.split("┏")
    (table,) = [table for table in tables if f"┃ {source} " in table]
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in table.splitlines() if "│" in line]


def test_words_find_texts_and_pictures_where_one_model_embeds_both(
    market: Market, work: Work, database_url: str, tmp_path: Path
) -> None:
    market.open(3)
    jobs = [market.post(title) for title in ("Baker of bread", "Nurse")]
    work("image_ai"), work("job_embeddings")
    with openai_server() as server:
        environment = {"DATABASE_URL": database_url, "OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": server.url}

        def search(*options: object) -> "CompletedProcess[str]":
            return run_command(tmp_path, "search", *options, **environment)

        found = search("bread")
        assert [row[1] for row in rows(found, "posting")] == [str(job) for job in jobs]
        assert "┃ product " not in found.stdout
        assert f"{LOCAL_IMAGE} embeds no words" in found.stderr
        (tmp_path / "red.png").write_bytes(picture("red"))
        by_picture = rows(search("--picture", "red.png", "--source", "product", "--count", "1"), "product")
        assert [(row[0], row[2]) for row in by_picture] == [("1.000", market.pictures.url("/red"))]

        add(market.connection, VISION)
        work("image_ai_shadow")
        activation.activate(market.connection, VISION)
        assert rows(search("a green thing"), "product")[0][2] == market.pictures.url("/green")

        assert search().returncode == search("bread", "--picture", "red.png").returncode == 2
        assert "there is no source cellar" in search("bread", "--source", "cellar").stderr


@pytest.mark.parametrize("way", ["key", "vector", "of another source"])
def test_sql_finds_similar_images(market: Market, way: str) -> None:
    given = Marketplace(market.connection)
    project, products = given.add("project"), [given.add("product") for _ in range(3)]
    given.add_image("project", project, (1, 0, 0))
    for product, vectors in zip(products, (((1, 0, 0), (0, 1, 0)), ((0, 1, 0.1),), ((0, 0.6, 0.8),)), strict=True):
        for vector in vectors:
            given.add_image("product", product, vector)
    call = {
        "key": "'product', %s::text, 2",
        "vector": "'product', '[0,1,0]'::vector, 2",
        "of another source": "'product', %s::text, 1, 'project'",
    }[way]
    asked = {"key": [products[0]], "vector": [], "of another source": [project]}[way]
    found = market.connection.execute(
        f"select key, round(similarity::numeric, 3) from matching_pipeline.find_similar_images({call})".encode(),
        asked,
    ).fetchall()
    first, second, third = map(str, products)
    expected = {
        "key": [(second, 0.995), (third, 0.6)],
        "vector": [(first, 1), (second, 0.995)],
        "of another source": [(first, 1)],
    }[way]
    assert [(key, float(similarity)) for key, similarity in found] == expected
