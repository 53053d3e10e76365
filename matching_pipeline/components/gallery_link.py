"""Each asset's metadata links to the gallery, if GALLERY_URL names one."""

from typing import Any

import dagster as dg

from matching_pipeline.settings import Settings


def gallery_link(page: str) -> dict[str, Any]:
    url = Settings().gallery_url
    return {"gallery": dg.MetadataValue.url(url.rstrip("/") + page)} if url else {}


def linked(asset: dg.AssetsDefinition) -> dg.AssetsDefinition:
    return asset.map_asset_specs(lambda spec: spec.merge_attributes(metadata=gallery_link("/")))
