"""The app's tables as external assets: one for each table, whichever sources name it."""

import dagster as dg
import pytest

from matching_pipeline.components.sources import app_tables, table_key
from matching_pipeline.sources.declarations import Declarations
from matching_pipeline.sources.source import Source
from matching_pipeline_tests.unit.components.conftest import Load

GALLERY = """
type: matching_pipeline.Source
attributes:
  name: project
  table: public.listings
  when: t.type = 'project'
  pictures: {table: public.gallery, entity: listing_id, url: url}
---
type: matching_pipeline.Source
attributes:
  name: offer
  table: public.listings
  when: t.type = 'offer'
  pictures: {table: public.gallery, entity: listing_id, url: url}
---
type: matching_pipeline.ImageEmbeddings
attributes: {name: pictures, sources: [project, offer]}
"""


@pytest.mark.parametrize(
    ("table", "key"),
    [
        ("public.jobs", ["public", "jobs"]),
        ("jobs", ["public", "jobs"]),
        ("Shop.Orders", ["shop", "orders"]),
        ('"Shop"."Orders"', ["Shop", "Orders"]),
        ('shop."a.b ""c"""', ["shop", 'a.b "c"']),
    ],
)
def test_a_table_is_named_as_postgres_reads_it(table: str, key: list[str]) -> None:
    assert table_key(table) == dg.AssetKey(key)


def test_sources_that_share_tables_share_their_assets(load: Load) -> None:
    defs = load(app=GALLERY)
    specs = {spec.key.to_user_string(): spec for spec in defs.resolve_all_asset_specs()}
    assert specs.keys() == {"public/listings", "public/gallery", "pictures"}
    gallery = specs["public/gallery"]
    assert gallery.description == "The app's table `public.gallery`: pictures of project, pictures of offer."
    assert {dep.asset_key.to_user_string() for dep in gallery.deps} == {"public/listings"}
    assert {dep.asset_key.to_user_string() for dep in specs["pictures"].deps} == {"public/gallery"}


def test_an_entity_comes_after_its_parent() -> None:
    (face,) = specs(source("face", "faces", parent="profiles"))["face"][1:]
    assert [dep.asset_key for dep in face.deps] == [dg.AssetKey(["public", "profiles"])]


def test_tables_that_point_to_each_other_make_no_circle() -> None:
    found = specs(
        source("user", "profiles", parent="companies"),
        source("company", "companies", parent="profiles"),
        source("boss", "bosses", parent="bosses"),
    )
    after = {
        spec.key.path[-1]: [dep.asset_key.path[-1] for dep in spec.deps] for each in found.values() for spec in each
    }
    assert after == {"companies": [], "profiles": ["companies"], "bosses": []}


def source(name: str, table: str, parent: str) -> Source:
    declared = {"name": name, "table": table, "vector": "v", "parent": {"table": parent, "on": "parent_id"}}
    return Source.model_validate(declared)


def specs(*sources: Source) -> dict[str, list[dg.AssetSpec]]:
    return {name: list(found) for name, found in app_tables(Declarations.of(sources)).items()}
