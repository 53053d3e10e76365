"""Labels say how good the lists of the active model and of a shadow are."""

from pathlib import Path
from uuid import UUID

import pytest

from matching_pipeline.components.describe_matches import describe_matches
from matching_pipeline.components.resources import Pipeline
from matching_pipeline.db.connections import Connection
from matching_pipeline.matches.evaluation import evaluate
from matching_pipeline_tests.conftest import EXAMPLES
from matching_pipeline_tests.fixtures.command import run_command
from matching_pipeline_tests.integration.marketplace import Marketplace

SHADOW = "shadow"
Labelled = tuple[Marketplace, UUID, list[UUID]]


def label(connection: Connection, project: object, product: object, verdict: int, by: str = "anna") -> None:
    connection.execute(
        "insert into matching_pipeline.match_labels (matcher, left_key, right_key, verdict, by) "
        "values ('project', %s, %s, %s, %s)",
        (str(project), str(product), verdict, by),
    )


@pytest.fixture
def labelled(connection: Connection, database_url: str) -> Labelled:
    """A project, a product that is near by the active model, and one that is near by the shadow."""
    market = Marketplace(connection)
    connection.execute("insert into matching_pipeline.embedding_models values (%s, 'image', 3, 'shadow')", (SHADOW,))
    project, products = market.add("project"), [market.add("product") for _ in range(2)]
    images = [("project", project), *(("product", product) for product in products)]
    active, other = ((1, 0, 0), (1, 0, 0), (0, 1, 0)), ((1, 0, 0), (0, 1, 0), (1, 0, 0))
    for (kind, entity), vector, shadow_vector in zip(images, active, other, strict=True):
        image = market.add_image(kind, entity, vector)
        market.embed(kind, image, shadow_vector, model=SHADOW)
    market.process(database_url)
    label(connection, project, products[0], 0)
    label(connection, project, products[1], 3)
    label(connection, project, products[1], 2, by="purchase")
    return market, project, products


def test_each_model_is_judged_by_its_own_lists(labelled: Labelled) -> None:
    market, _, products = labelled
    active, shadow = evaluate(market.connection)
    assert [(each.model, each.status) for each in (active, shadow)] == [("given", "active"), (SHADOW, "shadow")]
    for found, value in ((active.quality, 0.0), (shadow.quality, 1.0)):
        assert (found.entities, found.pairs) == (1, 2)
        assert [each and each.value for each in (found.ndcg, found.precision, found.recall)] == [value] * 3
    market.delete("products", products[1])
    assert next(evaluate(market.connection)).quality.pairs == 1


def test_the_command_prints_it_and_the_asset_has_it_as_metrics(
    labelled: Labelled, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    market, project, _ = labelled
    label(market.connection, project, "gone", 1)
    printed = run_command(tmp_path, "evaluate", DATABASE_URL=database_url)
    assert [line.split()[1] for line in printed.stdout.splitlines() if "project" in line and "active" in line]
    assert "1.000 (0.21–1.00)" in printed.stdout
    assert printed.stderr.startswith("1 labels count for nothing")
    monkeypatch.setenv("DATABASE_URL", database_url)
    (declared,) = EXAMPLES.matches
    shown = describe_matches(Pipeline(definitions_dir=None), declared)
    assert (shown["project judged pairs"], shown["project precision"], shown["project nDCG@10"]) == (2, 0.0, 0.0)
    assert not [name for name in shown if "face" in name and "judged" in name]
