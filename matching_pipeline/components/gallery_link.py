"""Each asset's metadata links to the gallery, if GALLERY_URL names one."""

from collections.abc import Iterable, Sequence

import dagster as dg

from matching_pipeline.settings import Settings

Asset = dg.AssetsDefinition | dg.AssetSpec


def linked(assets: Iterable[Asset], page: str = "/") -> Sequence[Asset]:
    if not (url := Settings().gallery_url):
        return list(assets)
    link = {"gallery": dg.MetadataValue.url(url.rstrip("/") + page)}
    return dg.map_asset_specs(lambda spec: spec.merge_attributes(metadata=link), assets)
