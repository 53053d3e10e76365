"""The prices of models. The prices in the settings are those of the models that the settings name."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Final

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
"""USD for a million tokens, of input and of output."""


@dataclass(frozen=True)
class PricedModel:
    """`setting` is the one that names the model; prices are in USD for a million tokens."""

    name: str
    setting: str
    input_price: Decimal
    output_price: Decimal

    def cost(self, input_tokens: int, output_tokens: int) -> Decimal:
        return (input_tokens * self.input_price + output_tokens * self.output_price) / 1_000_000


def embedding_model(settings: Settings, name: str) -> PricedModel:
    prices = settings.openai_embedding_usd_per_million_tokens, 0.0
    return _priced(name, settings.openai_embedding_model, "OPENAI_EMBEDDING_MODEL", prices)


def vision_model(settings: Settings, name: str) -> PricedModel:
    prices = settings.openai_vision_input_usd_per_million_tokens, settings.openai_vision_output_usd_per_million_tokens
    return _priced(name, settings.openai_vision_model, "OPENAI_VISION_MODEL", prices)


def image_model(settings: Settings) -> PricedModel:
    """The estimate prices the prompt like a picture, which costs more: it is a small part of the input."""
    name = settings.openai_image_model
    prices = settings.openai_image_input_usd_per_million_tokens, settings.openai_image_output_usd_per_million_tokens
    return _priced(name, name, "OPENAI_IMAGE_MODEL", prices)


def _priced(name: str, chosen: str, setting: str, prices: tuple[float, float]) -> PricedModel:
    """A model that is neither chosen nor known has the price of the chosen one: the budget needs a figure."""
    by_settings = str(prices[0]), str(prices[1])
    for_input, for_output = by_settings if name == chosen else KNOWN.get(name, by_settings)
    return PricedModel(
        name, setting if name == chosen else "embedding_models", Decimal(for_input), Decimal(for_output)
    )
