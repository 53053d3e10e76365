"""The registry of models: which model works for a queue, and how many rows it has covered.

A modality has one active model, which readers see, and at most one shadow. The shadow embeds the same rows beside it,
by a queue of its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from psycopg.rows import class_row

from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import query
from matching_pipeline.errors import ConfigurationError, ModelSwitched
from matching_pipeline.providers.factory import Modality
from matching_pipeline.providers.protocols import EmbeddingProvider
from matching_pipeline.queues.handler import LockBusy

Status = Literal["active", "shadow", "retired"]

MODALITIES: Sequence[Modality] = ("image", "text")
EMBEDDED: Mapping[Modality, str] = {"image": "images", "text": "texts"}
"""The models of each modality embed these."""
SHADOW = "_shadow"


@dataclass(frozen=True)
class RegisteredModel:
    name: str
    modality: Modality
    dimensions: int
    status: Status


@dataclass(frozen=True)
class Coverage:
    what: str
    rows: int
    covered: int
    waiting: int
    failed_for_good: int
    unaccounted: int


class ModelCoverage(NamedTuple):
    """A retired model has no coverage."""

    model: RegisteredModel
    coverage: Coverage | None


def shadow_queue(queue: str) -> str:
    return queue + SHADOW


def status_in(queue: str) -> Status:
    """The status of the model that works for the queue."""
    return "shadow" if is_shadow(queue) else "active"


def is_shadow(queue: str) -> bool:
    return queue.endswith(SHADOW)


def modality_of(connection: Connection, queue: str) -> Modality:
    """The modality of an embeddings asset's queue or its shadow."""
    row = connection.execute(query("queue_work"), {"queue": queue.removesuffix(SHADOW)}).fetchone()
    for modality in MODALITIES:
        if row and row[0] == modality:
            return modality
    raise ConfigurationError(f"the queue {queue} embeds nothing: declare it, then run `matching-pipeline attach`")


def queues_of(connection: Connection, modality: Modality) -> list[str]:
    """The queues of the active model of a modality."""
    return [name for (name,) in connection.execute(query("queues_of_work"), {"work": modality})]


def model_of(connection: Connection, queue: str) -> str | None:
    """The name of the model that works for the queue."""
    row = connection.execute(query("queue_model"), {"queue": queue}).fetchone()
    return row[0] if row else None


def current_model(connection: Connection, modality: Modality, status: Status) -> str | None:
    """The modality's active model or its shadow."""
    row = connection.execute(query("current_model"), {"modality": modality, "status": status}).fetchone()
    return row[0] if row else None


def require_dimensions(connection: Connection, provider: EmbeddingProvider) -> None:
    """Raises ConfigurationError if the registry has other dimensions: the vectors could not be compared."""
    row = connection.execute(query("registered_model"), {"name": provider.model}).fetchone()
    if row and row[1] != provider.dimensions:
        raise ConfigurationError(
            f"embedding_models: {provider.model} is registered with {row[1]} dimensions, not {provider.dimensions}"
        )


def hold_role(connection: Connection, provider: EmbeddingProvider, queue: str) -> None:
    """Keeps the provider's model the one that works for the queue until the transaction ends.

    Registers the first model of a modality as the active one. Raises ModelSwitched if another model works for the
    queue now, LockBusy if an activation is about to change it.
    """
    parameters = {
        "name": provider.model,
        "dimensions": provider.dimensions,
        "modality": modality_of(connection, queue),
    }
    row = connection.execute(query("hold_role"), parameters).fetchone()
    if row is None:
        registered = connection.execute(query("registered_model"), parameters).fetchone()
        if registered is None and not is_shadow(queue):
            connection.execute(query("register_first_model"), parameters)
        # another worker may have registered it a moment ago
        row = connection.execute(query("hold_role"), parameters).fetchone()
        if row is None and registered is not None:
            raise LockBusy("another model is being activated")
    if row is None or row[0] != status_in(queue):
        raise ModelSwitched(
            f"{provider.model} is not the {status_in(queue)} model now: the next run uses the one that is"
        )


def forget_work_of_no_model(connection: Connection) -> int:
    """Removes the jobs of shadow queues that have no model; returns how many."""
    return connection.execute(query("forget_jobs_of_no_model")).rowcount


def registered_models(connection: Connection) -> list[ModelCoverage]:
    """Every model of images and texts, with its coverage."""
    with connection.cursor(row_factory=class_row(RegisteredModel)) as cursor:
        models = cursor.execute(query("registered_models")).fetchall()
    return [ModelCoverage(model, _coverage(connection, model)) for model in models]


def _coverage(connection: Connection, model: RegisteredModel) -> Coverage | None:
    if model.status == "retired":
        return None
    suffix = SHADOW if model.status == "shadow" else ""
    parameters = {"modality": model.modality, "suffix": suffix}
    with connection.cursor(row_factory=class_row(Coverage)) as cursor:
        return cursor.execute(query("model_coverage"), parameters).fetchone()
