"""The registry of models: who may write embeddings."""

from typing import Literal, Protocol

from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import query
from matching_pipeline.failures import ConfigurationError


class Model(Protocol):
    """What every provider says of its vectors."""

    model: str
    dimensions: int


def register_model(connection: Connection, provider: Model, modality: Literal["image", "text"], setting: str) -> None:
    """Makes the provider's model known, active where it is the first of its modality.

    Raises ConfigurationError, which names the setting that chose the provider, where another model is active or the
    dimensions are not those it had before: vectors of different models are never compared.
    """
    parameters = {"name": provider.model, "dimensions": provider.dimensions, "modality": modality}
    connection.execute(query("register_model"), parameters)
    row = connection.execute(query("embedding_model"), parameters).fetchone()
    if row != (provider.dimensions, "active"):
        raise ConfigurationError(
            f"{setting}: its model {provider.model} ({provider.dimensions} dimensions) is not the active "
            f"{modality} model of the table embedding_models, where it stands as (dimensions, status) = {row}"
        )
