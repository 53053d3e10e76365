"""The registry of models: which works in which lane, and how another takes its place.

A modality has one active model, which readers see, and at most one shadow, which fills beside it in its own lane.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple, Protocol

from psycopg.rows import class_row

from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import query
from matching_pipeline.db.transactions import give_way, limit_lock_waits
from matching_pipeline.errors import ConfigurationError, ModelSwitched
from matching_pipeline.matches import projects
from matching_pipeline.matches.image_sets import PART_IMAGES
from matching_pipeline.matches.locks import ListsLock
from matching_pipeline.matches.match_table import Figures
from matching_pipeline.providers.factory import Modality
from matching_pipeline.queues import client
from matching_pipeline.queues.worker import LockBusy

Status = Literal["active", "shadow", "retired"]

QUEUES: Mapping[Modality, str] = {"image": "image_ai", "text": "job_embeddings"}
"""In which the active model works."""
MODALITIES: Mapping[str, Modality] = {queue: modality for modality, queue in QUEUES.items()}
TABLES: Mapping[Modality, tuple[str, str]] = {"image": ("image_ai", "images"), "text": ("job_embeddings", "postings")}
"""Where a modality's vectors are, and of what."""
SHADOW = "_shadow"
REGISTRY_WAIT = "5s"
"""For drains that are writing; as nothing else is locked yet, nobody waits for us meanwhile."""


class ModelError(Exception):
    """What is asked of a model cannot be done; says why, and what to do."""


class Model(Protocol):
    """What every provider says of its vectors."""

    model: str
    dimensions: int


@dataclass(frozen=True)
class Registered:
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


class Standing(NamedTuple):
    """A model, and how far it has come; a retired one has nothing."""

    model: Registered
    coverage: Coverage | None


def shadow_queue(queue: str) -> str:
    return queue + SHADOW


def status_in(queue: str) -> Status:
    """Of the model that works in the lane."""
    return "shadow" if queue.endswith(SHADOW) else "active"


def model_of(connection: Connection, queue: str) -> str | None:
    """The name of the model that works in the lane."""
    row = connection.execute(query("queue_model"), {"queue": queue}).fetchone()
    return row[0] if row else None


def require_dimensions(connection: Connection, provider: Model) -> None:
    """Raises ConfigurationError where they are not those of the registry: vectors would not be comparable."""
    row = connection.execute(query("registered_model"), {"name": provider.model}).fetchone()
    if row and row[1] != provider.dimensions:
        raise ConfigurationError(
            f"embedding_models: {provider.model} stands there with {row[1]} dimensions, not {provider.dimensions}"
        )


def hold_role(connection: Connection, provider: Model, queue: str) -> None:
    """Until the transaction ends the provider's model stays the one that works in the lane; the first of its modality
    that gets here becomes the active one.

    Raises Superseded where another works there now, Busy where that is about to change.
    """
    parameters = {"name": provider.model, "dimensions": provider.dimensions, "modality": MODALITIES.get(queue)}
    row = connection.execute(query("hold_role"), parameters).fetchone()
    if row is None:
        standing = connection.execute(query("registered_model"), parameters).fetchone()
        if standing is None and queue in MODALITIES:
            connection.execute(query("register_first_model"), parameters)
        # it may be another drain that has just registered it
        row = connection.execute(query("hold_role"), parameters).fetchone()
        if row is None and standing is not None:
            raise LockBusy("another model is being activated")
    if row is None or row[0] != status_in(queue):
        raise ModelSwitched(
            f"{provider.model} is not the {status_in(queue)} model now: the next run is for the one that is"
        )


def forget_work_of_no_model(connection: Connection) -> int:
    """Removes what is owed to a shadow where there is none; returns how many rows."""
    return connection.execute(query("forget_jobs_of_no_model")).rowcount


def standings(connection: Connection) -> list[Standing]:
    """Every model of images and texts, with its coverage."""
    with connection.cursor(row_factory=class_row(Registered)) as cursor:
        models = cursor.execute(query("registered_models")).fetchall()
    return [Standing(model, _coverage(connection, model)) for model in models]


def add(connection: Connection, provider: Model, modality: Modality) -> tuple[Status, int]:
    """Registers the provider's model as the shadow, or as the active one where there is none, and queues what it
    lacks; returns what it is now, and how much was queued."""
    require_dimensions(connection, provider)
    with connection.transaction():
        standing = {status: name for name, status in _hold(connection, modality) if status != "retired"}
        if provider.model in standing.values():
            (status,) = [status for status, name in standing.items() if name == provider.model]
            raise ModelError(f"{provider.model} is the {status} {modality} model already")
        if "shadow" in standing:
            raise ModelError(f"{standing['shadow']} is filling as the shadow already: retire it first")
        parameters = {"name": provider.model, "dimensions": provider.dimensions, "modality": modality}
        connection.execute(query("add_shadow"), parameters)
        if "active" not in standing:
            _set_status(connection, provider.model, "active")
        row = connection.execute(query(f"enqueue_missing_{TABLES[modality][1]}")).fetchone()
    return ("shadow" if "active" in standing else "active"), row[0] if row else 0


def activate(connection: Connection, name: str, *, force: bool = False, part_images: int = PART_IMAGES) -> Figures:
    """Lets the shadow and the active model change places, in one transaction with all that readers see of it.

    Returns what that did to `matches`. Raises ModelError where it is no shadow, or, without `force`, lacks what the
    active model has.
    """
    modality = _modality(connection, name)
    action = partial(_activate, connection, name, modality, force, part_images)
    # so that few of them write while we wait for the registry
    client.reopen_all(connection)
    if modality == "text":
        return give_way(connection, action)
    with ListsLock(connection, projects.KIND).alone():
        return give_way(connection, action)


def retire(connection: Connection, name: str) -> int:
    """Removes the shadow's rows and its work; returns how many rows."""
    modality = _modality(connection, name)
    return give_way(connection, partial(_retire, connection, name, modality))


def _activate(connection: Connection, name: str, modality: Modality, force: bool, part_images: int) -> Figures:
    standing = dict(_hold(connection, modality))
    _require_shadow(name, standing.get(name))
    queue = QUEUES[modality]
    if not force and (lacking := _lacking(connection, modality)):
        raise ModelError(
            f"{name} lacks {lacking} of the {TABLES[modality][1]} that the active model has: what waits is done by "
            f"`dev` or `process --missing`, what failed is tried again by `retry {shadow_queue(queue)} --all`; "
            "--force activates it all the same"
        )
    _set_status(connection, name, "retired")
    for other, status in standing.items():
        if status == "active":
            _set_status(connection, other, "shadow")
    _set_status(connection, name, "active")
    # the work goes with its model
    connection.execute(query("exchange_lanes"), {"queue": queue, "shadow_lane": shadow_queue(queue)})
    # heard at the commit, by drains that were opened since the first call
    client.reopen_all(connection)
    return projects.rebuild_at_once(connection, part_images) if modality == "image" else Figures()


def _retire(connection: Connection, name: str, modality: Modality) -> int:
    _require_shadow(name, dict(_hold(connection, modality)).get(name))
    _set_status(connection, name, "retired")
    connection.execute(query("forget_lane"), {"queue": shadow_queue(QUEUES[modality])})
    return connection.execute(query(f"forget_{TABLES[modality][0]}_of_model"), {"name": name}).rowcount


def _hold(connection: Connection, modality: Modality) -> list[tuple[str, Status]]:
    """The modality's models, which nobody changes and by which nobody writes until the transaction ends."""
    limit_lock_waits(connection, REGISTRY_WAIT)
    models = connection.execute(query("hold_models"), {"modality": modality}).fetchall()
    limit_lock_waits(connection)
    return models


def _require_shadow(name: str, status: Status | None) -> None:
    if status != "shadow":
        way = "activate another first" if status == "active" else "`matching-pipeline model add` makes it one"
        raise ModelError(f"{name} is {status or 'unknown'}, no shadow: {way}")


def _lacking(connection: Connection, modality: Modality) -> int:
    row = connection.execute(query(f"{TABLES[modality][1]}_lacking_shadow")).fetchone()
    return int(row[0]) if row else 0


def _modality(connection: Connection, name: str) -> Modality:
    row = connection.execute(query("registered_model"), {"name": name}).fetchone()
    for modality in QUEUES:
        if row and row[0] == modality:
            return modality
    raise ModelError(f"there is no model {name}: `matching-pipeline model list` shows those that there are")


def _set_status(connection: Connection, name: str, status: Status) -> None:
    connection.execute(query("set_status"), {"name": name, "status": status})


def _coverage(connection: Connection, model: Registered) -> Coverage | None:
    if model.status == "retired":
        return None
    queue = QUEUES[model.modality]
    queue = queue if model.status == "active" else shadow_queue(queue)
    with connection.cursor(row_factory=class_row(Coverage)) as cursor:
        return cursor.execute(query(f"{queue}_coverage")).fetchone()
