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
"""The share of a matcher's entities with matches that may lose all of them."""
ROWS_AT_ONCE = 1000
"""One transaction deletes at most this many rows of a retired model."""
RETIRE_SECONDS = 20.0
"""`retire` gives up when all rows that are left have been locked for this long."""
RETRY_PAUSE_SECONDS = 0.05
REGISTRY_WAIT = "5s"
"""How long a session waits for workers that are writing with one of the models."""


class ModelChangeRefused(Exception):
    """The message gives the reason, and says what to do."""


def add(connection: Connection, provider: EmbeddingProvider, modality: Modality) -> tuple[Status, int]:
    """Registers the provider's model and enqueues the rows that it lacks; returns its status and the number of jobs.

    The model becomes the shadow, or the active one if there is none.
    """
    require_dimensions(connection, provider)
    with connection.transaction():
        names = {status: name for name, status in _lock_models(connection, modality) if status != "retired"}
        for status, name in names.items():
            if name == provider.model:
                raise ModelChangeRefused(
                    f"{name} is the {status} {modality} model already: `model add` takes the name of another"
                )
        if "shadow" in names:
            raise ModelChangeRefused(f"{names['shadow']} is the shadow already: retire it first, with `model retire`")
        parameters = {"name": provider.model, "dimensions": provider.dimensions, "modality": modality}
        connection.execute(query("add_shadow"), parameters)
        if "active" not in names:
            _set_status(connection, provider.model, "active")
        ((queued,),) = connection.execute(query("enqueue_missing_of_modality"), parameters).fetchall()
    return ("shadow" if "active" in names else "active"), queued


@dataclass(frozen=True)
class Options:
    """What an activation may do. `thresholds` are new ones for the model, by matcher."""

    force: bool = False
    """even if the model lacks embeddings that the active model has"""
    accept_loss: bool = False
    """even if more than MOST_LOSING of the entities that have matches by a matcher lose all of them"""
    thresholds: Mapping[str, float] = field(default_factory=dict)


def activate(
    connection: Connection, name: str, options: Options = Options(), *, part_images: int = PART_IMAGES
) -> Figures:
    """Makes the shadow active and the active model the shadow.

    The same transaction computes all matches again, so readers see only old or only new pairs. Returns the figures
    of the change in `matches`. Raises ModelChangeRefused if the model is not a shadow, or as `options` says.
    """
    modality = modality_of_model(connection, name)
    action = partial(_activate, connection, name, modality, options, part_images)
    # Workers open their handlers again after their batch, so fewer of them write while this session waits for the
    # lock on the registry.
    client.reopen_all(connection)
    with ExitStack() as stack:
        for matching in matchings_of(connection, modality, part_images):
            stack.enter_context(ListsLock(connection, matching.name).alone())
        return give_way(connection, action)


def retire(connection: Connection, name: str) -> int:
    """Deletes the shadow's jobs, then its rows in short transactions; returns the number of rows.

    It skips rows that the app has locked. Raises ModelChangeRefused if no others are left for RETIRE_SECONDS; a
    second call deletes them.
    """
    modality = modality_of_model(connection, name)
    give_way(connection, partial(_retire, connection, name, modality))
    removed, failed = 0, 0
    while _has_rows(connection, name):
        deleted = give_way(connection, partial(_delete_some_rows, connection, name))
        removed += deleted
        failed = 0 if deleted else failed + 1
        if failed > RETIRE_SECONDS / RETRY_PAUSE_SECONDS:
            raise ModelChangeRefused(
                f"{name} is retired, but the app has locked some of its rows: run `model retire {name}` again later"
            )
        if not deleted:
            time.sleep(RETRY_PAUSE_SECONDS)
    return removed


def _activate(connection: Connection, name: str, modality: Modality, options: Options, part_images: int) -> Figures:
    statuses = dict(_lock_models(connection, modality))
    _require_shadow(name, statuses.get(name))
    if not options.force:
        _require_complete(connection, name, modality)
    for matcher, threshold in options.thresholds.items():
        # this row is of the shadow, so it changes no list before the activation
        parameters = {"matcher": matcher, "model": name, "threshold": threshold}
        if not connection.execute(query("set_threshold"), parameters).rowcount:
            raise ModelChangeRefused(
                f"no matcher {matcher} compares {EMBEDDED[modality]}: --threshold takes the name of one that does"
            )
    # a modality has at most one shadow and one active model, so each leaves its status before the other takes it
    _set_status(connection, name, "retired")
    for other, status in statuses.items():
        if status == "active":
            _set_status(connection, other, "shadow")
    _set_status(connection, name, "active")
    # the name of a queue depends on the status of its model: each unfinished job stays with its model
    for queue in queues_of(connection, modality):
        connection.execute(query("exchange_queues"), {"queue": queue, "shadow_queue": shadow_queue(queue)})
    # workers receive this when the transaction commits, also those that started after the first call
    client.reopen_all(connection)
    figures = Figures()
    for matching in matchings_of(connection, modality, part_images):
        before = _entities_with_matches(connection, matching.name)
        figures += matching.rebuild_at_once(connection)
        lost = np.setdiff1d(before, _entities_with_matches(connection, matching.name))
        if len(lost) > MOST_LOSING * len(before) and not options.accept_loss:
            raise ModelChangeRefused(
                f"{len(lost)} of the {len(before)} entities that have matches by the matcher {matching.name} would "
                f"lose all of them: its threshold may not suit {name}. Run `model compare {modality}` for a better "
                "one and give it with --threshold, or use --accept-loss"
            )
    return figures


def _entities_with_matches(connection: Connection, matcher: str) -> Ids:
    """The ids of the entities that have at least one match in their list."""
    return read_columns(connection, query("entities_with_matches"), {"matcher": matcher}, {"id": UUID})["id"]


def matchings_of(connection: Connection, modality: Modality, part_images: int) -> list[Matching]:
    names = {name for (name,) in connection.execute(query("matchers_of_modality"), {"modality": modality})}
    return [each for each in all_attached(connection, part_images) if each.name in names]


def require_another(connection: Connection, modality: Modality, name: str) -> None:
    """Raises ModelChangeRefused if the modality has no active model, or if `name` is the active one."""
    active = current_model(connection, modality, "active")
    if active is None:
        raise ModelChangeRefused(
            f"there is no active {modality} model yet: start a worker, whose first embedding makes its model active"
        )
    if name == active:
        raise ModelChangeRefused(
            f"{name} is the active {modality} model already: name another, or `matching-pipeline model add` one"
        )


def _retire(connection: Connection, name: str, modality: Modality) -> None:
    status = dict(_lock_models(connection, modality)).get(name)
    if status == "retired" and _has_rows(connection, name):
        return
    _require_shadow(name, status)
    _set_status(connection, name, "retired")
    connection.execute(query("forget_probes"), {"name": name})
    for queue in queues_of(connection, modality):
        connection.execute(query("forget_queue"), {"queue": shadow_queue(queue)})


def _has_rows(connection: Connection, name: str) -> bool:
    """Whether the retired model has rows left. It is false if the model is not retired any more."""
    return connection.execute(query("has_rows_of_retired"), {"name": name}).fetchone() == (True,)


def _delete_some_rows(connection: Connection, name: str) -> int:
    held = connection.execute(query("hold_role"), {"name": name}).fetchone()
    if held != ("retired",):
        return 0
    return connection.execute(query("forget_rows_of_model"), {"name": name, "size": ROWS_AT_ONCE}).rowcount


def _lock_models(connection: Connection, modality: Modality) -> list[tuple[str, Status]]:
    """Locks the modality's models until the transaction ends, so that no worker writes embeddings of them."""
    limit_lock_waits(connection, REGISTRY_WAIT)
    models = connection.execute(query("lock_models"), {"modality": modality}).fetchall()
    limit_lock_waits(connection)
    return models


def _require_shadow(name: str, status: Status | None) -> None:
    if status != "shadow":
        way = "activate another first" if status == "active" else "`matching-pipeline model add` adds it"
        raise ModelChangeRefused(f"{name} is {status or 'unknown'}, not a shadow: {way}")


def _require_complete(connection: Connection, name: str, modality: Modality) -> None:
    ((lacking,),) = connection.execute(query("items_lacking_shadow"), {"modality": modality}).fetchall()
    if lacking:
        queues = [shadow_queue(queue) for queue in queues_of(connection, modality)]
        retry = " and ".join(f"`retry {queue} --all`" for queue in queues)
        raise ModelChangeRefused(
            f"{name} lacks {lacking} of the {EMBEDDED[modality]} that the active model has: run `dev` or `process "
            f"--missing` to do the waiting jobs, and {retry} to try failed jobs again, or use --force"
        )


def modality_of_model(connection: Connection, name: str) -> Modality:
    row = connection.execute(query("registered_model"), {"name": name}).fetchone()
    for modality in MODALITIES:
        if row and row[0] == modality:
            return modality
    raise ModelChangeRefused(f"there is no model {name}: `matching-pipeline model list` shows all models")


def _set_status(connection: Connection, name: str, status: Status) -> None:
    connection.execute(query("set_status"), {"name": name, "status": status})
