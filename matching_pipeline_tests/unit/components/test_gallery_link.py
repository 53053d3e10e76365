"""The link from an asset to the gallery."""

import dagster as dg
import pytest

from matching_pipeline.components.declared import reported
from matching_pipeline.components.gallery_link import linked
from matching_pipeline.components.items import items_asset, items_report
from matching_pipeline.components.sources import app_tables
from matching_pipeline_tests.conftest import EXAMPLES


def test_every_asset_links_to_the_gallery(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GALLERY_URL", "https://example.com/gallery/")
    images = EXAMPLES.images[0]
    tables = [
        spec for spec in linked(app_tables(EXAMPLES)["project"], "/sources/project") if isinstance(spec, dg.AssetSpec)
    ]
    asset = next(iter(reported(items_asset(images, EXAMPLES), items_report(images)).assets or ()))
    assert isinstance(asset, dg.AssetsDefinition)
    links = [dict(spec.metadata)["gallery"] for spec in (*tables, *asset.specs)]
    assert [each.value for each in links] == ["https://example.com/gallery/sources/project"] * len(tables) + [
        "https://example.com/gallery/"
    ]
