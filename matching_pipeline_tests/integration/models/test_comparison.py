"""Two models are compared before one takes the place of the other: on the shadow's rows, or on a sample."""

from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from matching_pipeline_tests.fixtures.command import run_command
from matching_pipeline_tests.fixtures.openai_server import KEY, openai_server
from matching_pipeline_tests.integration.models.conftest import (
    COLORS,
    LOCAL_IMAGE,
    VISION,
    Market,
    Work,
    add,
    models_of,
)

SHIFTED = """
with products as (
    select item, embedding, attributes, row_number() over (order by item) as place
    from matching_pipeline.embeddings where source = 'product' and model = %s
)
update matching_pipeline.embeddings set embedding = other.embedding, attributes = other.attributes
from products as own join products as other on other.place = own.place %% 4 + 1
where embeddings.item = own.item and model = %s
"""
"""Gives each product what the model made of another."""

Command = Callable[..., "CompletedProcess[str]"]


@pytest.fixture
def compare(market: Market, work: Work, database_url: str, tmp_path: Path) -> Command:
    """`model compare image` in a market where a project matches the product of its colour."""
    market.open()
    work("image_ai")
    market.run("update matching_pipeline.match_settings set threshold = 0.95 where matcher = 'project'")
    work("matches_project")

    def run(*options: str, server: str = "") -> "CompletedProcess[str]":
        return run_command(
            tmp_path,
            *("model", "compare", "image", *options),
            DATABASE_URL=database_url,
            OPENAI_API_KEY=KEY,
            OPENAI_BASE_URL=server,
            OPENAI_EMBEDDING_DIMENSIONS="64",
            IMAGE_ALLOW_PRIVATE_HOSTS="true",
        )

    return run


def test_the_shadow_is_compared_on_the_rows_that_it_has(market: Market, work: Work, compare: Command) -> None:
    add(market.connection, VISION)
    nothing = compare()
    assert nothing.returncode == 0
    assert "project: the two models have embedded no entities in common" in nothing.stderr
    work("image_ai_shadow")
    market.run(
        "insert into matching_pipeline.match_labels (matcher, left_key, right_key, verdict) "
        "select matcher, left_key, right_key, 1 from matching_pipeline.matches limit 1"
    )
    printed = compare().stdout
    assert "project: the lists of 4 entities" in printed
    assert "--threshold project=" in printed
    assert printed.count("← threshold") == 2
    assert "1.000 (0.21–1.00)" in printed
    market.run(SHIFTED, VISION, VISION)
    printed = compare().stdout
    assert "pairs of this model only │ 4" in printed
    lost, won = printed[printed.index("project: pairs lost") :].split("project: pairs won")
    assert all(market.pictures.url(f"/{color}") in part for color in COLORS[:4] for part in (lost, won))
    assert "0.000 (0.00–0.79)" in printed


def test_another_model_embeds_a_sample_for_a_price_and_leaves_no_row(market: Market, compare: Command) -> None:
    with openai_server() as server:
        printed = compare(VISION, "--yes", server=server.url)
        assert printed.returncode == 0, printed.stderr
        assert "embeds a sample of 8 images, which costs about $0.00" in printed.stderr
        assert "project: the lists of 4 entities" in printed.stdout
        assert models_of(market.connection, "image_ai") == {LOCAL_IMAGE: 8}
        asked = sum(server.asked.values())
        assert compare(VISION, "--sample", "4", server=server.url).returncode == 1
        assert sum(server.asked.values()) == asked
        assert "the lists of 2 entities" in compare(VISION, "--sample", "4", "--yes", server=server.url).stdout
        assert sum(server.asked.values()) == asked


def test_a_sample_without_one_of_the_sides_compares_nothing(market: Market, compare: Command) -> None:
    market.run("update matching_pipeline.items set content = 'file:///lost' where source = 'product'")
    market.run("update product_images set src = 'file:///lost'")
    with openai_server() as server:
        told = compare(VISION, "--yes", server=server.url)
    assert told.returncode == 0
    assert "4 of them cannot be embedded" in told.stderr
    assert "project: the two models have embedded no entities in common" in told.stderr


def test_the_active_model_is_not_compared_with_itself(compare: Command) -> None:
    refused = compare(LOCAL_IMAGE)
    assert (refused.returncode, "is the active image model already" in refused.stderr) == (1, True)


def test_activate_takes_the_proposed_threshold(
    market: Market, work: Work, compare: Command, database_url: str, tmp_path: Path
) -> None:
    add(market.connection, VISION)
    work("image_ai_shadow")
    market.run(
        "update matching_pipeline.match_settings set threshold = case model when %s then 1 else -1 end", VISION
    )
    work("matches_project")

    def activate(*options: str) -> "CompletedProcess[str]":
        return run_command(tmp_path, "model", "activate", VISION, *options, DATABASE_URL=database_url)

    for wrong in ("project=2", "project", "=0.3", "project=high"):
        assert activate("--threshold", wrong).returncode == 2
    activated = activate("--threshold", "proposed")
    assert activated.returncode == 0, activated.stderr
    assert "project: the threshold is 0." in activated.stderr
    assert models_of(market.connection, "matches") == {VISION: 16}
