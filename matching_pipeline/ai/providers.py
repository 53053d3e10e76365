"""Which provider does what, by the settings."""

from matching_pipeline.ai.protocols import ImageAnalyzer, ImageGenerator, TextEmbedder
from matching_pipeline.settings import Settings


def image_analyzer(settings: Settings) -> ImageAnalyzer:
    match settings.image_analyzer:
        case "local":
            from matching_pipeline.ai.local import LocalImageAnalyzer

            return LocalImageAnalyzer()


def text_embedder(settings: Settings) -> TextEmbedder:
    match settings.text_embedder:
        case "local":
            from matching_pipeline.ai.local_text import LocalTextEmbedder

            return LocalTextEmbedder()


def image_generator(settings: Settings) -> ImageGenerator:
    match settings.image_generator:
        case "local":
            from matching_pipeline.ai.local_pictures import LocalImageGenerator

            return LocalImageGenerator()
