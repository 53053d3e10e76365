"""Which provider does what, by the settings."""

from matching_pipeline.ai.protocols import ImageAnalyzer
from matching_pipeline.settings import Settings


def image_analyzer(settings: Settings) -> ImageAnalyzer:
    match settings.image_analyzer:
        case "local":
            from matching_pipeline.ai.local import LocalImageAnalyzer

            return LocalImageAnalyzer()
