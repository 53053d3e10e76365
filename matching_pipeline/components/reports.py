"""How workers report each declared asset."""

from matching_pipeline.components.derived import derived_report
from matching_pipeline.components.generated_images import generated_report
from matching_pipeline.components.image_embeddings import image_report
from matching_pipeline.components.matches import matches_report
from matching_pipeline.components.reporting import AssetReport
from matching_pipeline.components.text_embeddings import text_report
from matching_pipeline.sources.declarations import Declarations


def reports(declarations: Declarations) -> list[AssetReport]:
    """The reports of all assets, in the order in which work flows through them."""
    return [
        *(image_report(each) for each in declarations.images),
        *(text_report(each) for each in declarations.texts),
        *(derived_report(each) for each in declarations.derived),
        *(matches_report(each, declarations) for each in declarations.matches),
        *(generated_report(each) for each in declarations.generated),
    ]
