"""How another model takes the place of the active one: it is added as the shadow, activated, and can be retired."""

import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from matching_pipeline.db.arrays import UUID
from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import query
from matching_pipeline.db.reader import read_columns
from matching_pipeline.db.transactions import give_way, limit_lock_waits
from matching_pipeline.matches.image_sets import PART_IMAGES
from matching_pipeline.matches.kernel.columns import Ids
from matching_pipeline.matches.locks import ListsLock
from matching_pipeline.matches.matching import Matching, all_attached
from matching_pipeline.matches.writing import Figures
from matching_pipeline.models.registry import (
    EMBEDDED,
    MODALITIES,
    Status,
    current_model,
    queues_of,
    require_dimensions,
    shadow_queue,
)
from matching_pipeline.providers.factory import Modality
from matching_pipeline.providers.protocols import EmbeddingProvider
from matching_pipeline.queues import client

MOST_LOSING = 0.5
ROWS_AT_ONCE = 1000
RETIRE_SECONDS = 20.0
LOCKED_SECONDS = 0.05
"""Between two looks at rows that the app has locked."""
REGISTRY_WAIT = "5s"
"""For workers that are writing. This session holds no other lock by then, so that no other session waits for it."""


class ModelChangeRefused(Exception):
    """The message gives the reason and the remedy."""


def add(connection: Connection, provider: EmbeddingProvider, modality: Modality) -> tuple[Status, int]:
    """Registers the provider's model and enqueues the rows that it lacks; returns its status and the number of jobs.

    The model becomes the shadow, or the active one if there is none.
    """
    require_dimensions(connection, provider)
    with connection.transaction():
        names = {status: name for name, status in _hold(connection, modality) if status != "retired"}
        for status, name in names.items():
            if name == provider.model:
                raise ModelChangeRefused(f"{name} is the {status} {modality} model already")
        if "shadow" in names:
            raise ModelChangeRefused(f"{names['shadow']} is the shadow already: retire it first")
        parameters = {"name": provider.model, "dimensions": provider.dimensions, "modality": modality}
        connection.execute(query("add_shadow"), parameters)
        if "active" not in names:
            _set_status(connection, provider.model, "active")
        ((queued,),) = connection.execute(query("enqueue_missing_of_modality"), parameters).fetchall()
    return ("shadow" if "active" in names else "active"), queued


@dataclass(frozen=True)
class Change:
    """What an activation may do."""

    force: bool = False
    """even if the model lacks rows that the active model has"""
    accept_loss: bool = False
    """even if more than MOST_LOSING of the entities lose all their matches"""
    thresholds: Mapping[str, float] = field(default_factory=dict)
    """new ones for the model, by matcher"""


def activate(
    connection: Connection, name: str, change: Change = Change(), *, part_images: int = PART_IMAGES
) -> Figures:
    """Lets the shadow and the active model change places, in one transaction with all that readers see of it.

    Returns the figures of the change in `matches`. Raises ModelChangeRefused if the model is no shadow, or for what
    `change` does not allow.
    """
    modality = modality_of_model(connection, name)
    action = partial(_activate, connection, name, modality, change, part_images)
    # so that few workers write while this session waits for the registry
    client.reopen_all(connection)
    with ExitStack() as stack:
        for matching in matchings_of(connection, modality, part_images):
            stack.enter_context(ListsLock(connection, matching.name).alone())
        return give_way(connection, action)


def retire(connection: Connection, name: str) -> int:
    """Removes the shadow's jobs, then its rows; returns how many rows.

    It deletes rows in short transactions, which lock their entities: an erasure by the app waits for no lock. Raises
    ModelChangeRefused where the app has locked the last rows for too long; a second call goes on.
    """
    modality = modality_of_model(connection, name)
    give_way(connection, partial(_retire, connection, name, modality))
    removed, failed = 0, 0
    while not _all_forgotten(connection, name):
        deleted = give_way(connection, partial(_forget_some, connection, name))
        removed += deleted
        failed = 0 if deleted else failed + 1
        if failed > RETIRE_SECONDS / LOCKED_SECONDS:
            raise ModelChangeRefused(f"{name} is retired; the app has locked its last rows: `model retire` goes on")
        if not deleted:
            time.sleep(LOCKED_SECONDS)
    return removed


def _activate(connection: Connection, name: str, modality: Modality, change: Change, part_images: int) -> Figures:
    statuses = dict(_hold(connection, modality))
    _require_shadow(name, statuses.get(name))
    if not change.force:
        _require_complete(connection, name, modality)
    for matcher, threshold in change.thresholds.items():
        # the model's own row, which counts for no list yet
        parameters = {"matcher": matcher, "model": name, "threshold": threshold}
        if not connection.execute(query("set_threshold"), parameters).rowcount:
            raise ModelChangeRefused(f"no matcher {matcher} compares {EMBEDDED[modality]}")
    _set_status(connection, name, "retired")
    for other, status in statuses.items():
        if status == "active":
            _set_status(connection, other, "shadow")
    _set_status(connection, name, "active")
    # jobs stay with the model that they are for
    for queue in queues_of(connection, modality):
        connection.execute(query("exchange_queues"), {"queue": queue, "shadow_queue": shadow_queue(queue)})
    # workers hear this at the commit, those too that started since the first call
    client.reopen_all(connection)
    figures = Figures()
    for matching in matchings_of(connection, modality, part_images):
        before = _with_matches(connection, matching.name)
        figures += matching.rebuild_at_once(connection)
        lost = np.setdiff1d(before, _with_matches(connection, matching.name))
        if len(lost) > MOST_LOSING * len(before) and not change.accept_loss:
            raise ModelChangeRefused(
                f"{len(lost)} of the {len(before)} entities that have matches by the matcher {matching.name} would "
                f"lose all of them: its threshold may not suit the scores of {name}. `model compare {modality}` "
                "proposes one, --threshold sets it, --accept-loss activates the model nevertheless"
            )
    return figures


def _with_matches(connection: Connection, matcher: str) -> Ids:
    """The entities that have a list with pairs."""
    return read_columns(connection, query("copy_entities_with_matches"), {"matcher": matcher}, {"id": UUID})["id"]


def matchings_of(connection: Connection, modality: Modality, part_images: int) -> list[Matching]:
    names = {name for (name,) in connection.execute(query("matchers_of_modality"), {"modality": modality})}
    return [each for each in all_attached(connection, part_images) if each.name in names]


def require_another(connection: Connection, modality: Modality, name: str) -> None:
    """Raises ModelChangeRefused if the modality has no active model, or if `name` is the active one."""
    active = current_model(connection, modality, "active")
    if active is None:
        raise ModelChangeRefused(f"there is no active {modality} model yet: the first that writes becomes active")
    if name == active:
        raise ModelChangeRefused(
            f"{name} is the active {modality} model already: name another, or `matching-pipeline model add` one"
        )


def _retire(connection: Connection, name: str, modality: Modality) -> None:
    status = dict(_hold(connection, modality)).get(name)
    if status == "retired" and not _all_forgotten(connection, name):
        return
    _require_shadow(name, status)
    _set_status(connection, name, "retired")
    connection.execute(query("forget_probes"), {"name": name})
    for queue in queues_of(connection, modality):
        connection.execute(query("forget_queue"), {"queue": shadow_queue(queue)})


def _all_forgotten(connection: Connection, name: str) -> bool:
    """Also where the model has another status again."""
    return connection.execute(query("has_rows_of_retired"), {"name": name}).fetchone() == (False,)


def _forget_some(connection: Connection, name: str) -> int:
    held = connection.execute(query("hold_role"), {"name": name}).fetchone()
    if held != ("retired",):
        return 0
    return connection.execute(query("forget_rows_of_model"), {"name": name, "size": ROWS_AT_ONCE}).rowcount


def _hold(connection: Connection, modality: Modality) -> list[tuple[str, Status]]:
    """The modality's models. Until the transaction ends nothing changes them, and no worker writes by them."""
    limit_lock_waits(connection, REGISTRY_WAIT)
    models = connection.execute(query("hold_models"), {"modality": modality}).fetchall()
    limit_lock_waits(connection)
    return models


def _require_shadow(name: str, status: Status | None) -> None:
    if status != "shadow":
        way = "activate another first" if status == "active" else "`matching-pipeline model add` makes it one"
        raise ModelChangeRefused(f"{name} is {status or 'unknown'}, no shadow: {way}")


def _require_complete(connection: Connection, name: str, modality: Modality) -> None:
    ((lacking,),) = connection.execute(query("items_lacking_shadow"), {"modality": modality}).fetchall()
    if lacking:
        queues = [shadow_queue(queue) for queue in queues_of(connection, modality)]
        retry = " and ".join(f"`retry {queue} --all`" for queue in queues)
        raise ModelChangeRefused(
            f"{name} lacks {lacking} of the {EMBEDDED[modality]} that the active model has: `dev` or `process "
            f"--missing` does the jobs that wait, {retry} makes failed ones wait, --force activates the model "
            "nevertheless"
        )


def modality_of_model(connection: Connection, name: str) -> Modality:
    row = connection.execute(query("registered_model"), {"name": name}).fetchone()
    for modality in MODALITIES:
        if row and row[0] == modality:
            return modality
    raise ModelChangeRefused(f"there is no model {name}: `matching-pipeline model list` shows all models")


def _set_status(connection: Connection, name: str, status: Status) -> None:
    connection.execute(query("set_status"), {"name": name, "status": status})
