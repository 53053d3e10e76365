"""How workers report each declared asset."""

from matching_pipeline.components.generated_images import generated_report
from matching_pipeline.components.items import items_report
from matching_pipeline.components.matches import matches_report
from matching_pipeline.components.reporting import AssetReport
from matching_pipeline.sources.declarations import Declarations


def reports(declarations: Declarations) -> list[AssetReport]:
    """The reports of all assets, in the order in which work flows through them."""
    return [
        *(items_report(each) for each in declarations.of_items),
        *(matches_report(each, declarations) for each in declarations.matches),
        *(generated_report(each) for each in declarations.generated),
    ]
