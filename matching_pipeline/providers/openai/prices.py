"""What models cost that the settings do not name: the settings' prices are those of the settings' models."""

from decimal import Decimal
from typing import Final

from matching_pipeline.providers.openai.client import Model
from matching_pipeline.settings import Settings

KNOWN: Final = {
    "text-embedding-3-small": ("0.02", "0"),
    "text-embedding-3-large": ("0.13", "0"),
    "text-embedding-ada-002": ("0.10", "0"),
    "gpt-6-luna": ("0.1", "0.5"),
    "gpt-5-mini": ("0.25", "2"),
    "gpt-4.1": ("2", "8"),
    "gpt-4.1-mini": ("0.4", "1.6"),
    "gpt-4o": ("2.5", "10"),
    "gpt-4o-mini": ("0.15", "0.6"),
}
"""USD for a million tokens, read and written, as far as known; the settings win for the models that they name."""


def embedding_model(settings: Settings, name: str) -> Model:
    prices = settings.openai_embedding_price, 0.0
    return _model(settings.openai_embedding_model, "OPENAI_EMBEDDING_MODEL", name, prices)


def vision_model(settings: Settings, name: str) -> Model:
    prices = settings.openai_vision_input_price, settings.openai_vision_output_price
    return _model(settings.openai_vision_model, "OPENAI_VISION_MODEL", name, prices)


def image_model(settings: Settings) -> Model:
    """A prompt is charged as a picture is, which costs more: its part is small."""
    prices = settings.openai_image_input_price, settings.openai_image_output_price
    return _model(settings.openai_image_model, "OPENAI_IMAGE_MODEL", settings.openai_image_model, prices)


def _model(chosen: str, setting: str, name: str, prices: tuple[float, float]) -> Model:
    """One that is neither chosen nor known costs what the chosen one does: rather a wrong figure than no budget."""
    by_settings = str(prices[0]), str(prices[1])
    read, written = by_settings if name == chosen else KNOWN.get(name, by_settings)
    return Model(name, setting if name == chosen else "embedding_models", Decimal(read), Decimal(written))
