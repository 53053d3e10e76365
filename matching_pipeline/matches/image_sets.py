"""The embedded items of a block of entities, as image sets. Matchers read vectors nowhere else."""

import json
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from uuid import UUID

import numpy as np
from psycopg.types.json import Jsonb

from matching_pipeline.db import arrays
from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import query
from matching_pipeline.db.reader import TEXT, VECTOR, read_columns, read_parts
from matching_pipeline.matches.kernel.attributes import attribute_tokens
from matching_pipeline.matches.kernel.columns import Ids, Rows
from matching_pipeline.matches.kernel.held import COARSE_ERROR
from matching_pipeline.matches.kernel.images import ImageSet, image_set
from matching_pipeline.matches.kernel.policy import Policy
from matching_pipeline.matches.rule import Block

PART_IMAGES = 100_000
"""Images in a part, if the caller does not give the setting MATCH_PART_IMAGES."""
FEW_SOUGHT = 20
"""For up to this number of images Postgres computes which others are near. To send one costs more than its score."""

_FIELDS = {"entity_of_row": arrays.UUID, "image_ids": arrays.UUID, "embeddings": VECTOR}
"""The attributes come last, as text."""
_VALUES = {"id": arrays.UUID, "value": arrays.UUID}
_ITEMS = {**_FIELDS, "attributes": TEXT, "properties": TEXT}


@dataclass(frozen=True)
class Members:
    """The entities of a source in one block, or those from `first` on and before `before`."""

    source: str
    model: str
    block: Block = ()
    never_same: str | None = None
    """a column or property without which an entity can match no other"""
    first: str | None = None
    before: str | None = None
    divided: bool = False
    """whether items may have several vectors, as texts have; Postgres is faster if it knows that none has"""

    @property
    def parameters(self) -> dict[str, Any]:
        return {**vars(self), "block": Jsonb(dict(self.block))}


def load(connection: Connection, members: Members, ids: Collection[UUID] | None = None) -> ImageSet:
    """The images of all members, or of those named."""
    if ids is None:
        parameters = {**members.parameters, "ordered": False}
        ((columns, attributes),) = read_parts(connection, query("copy_items"), parameters, _FIELDS)
        order = np.lexsort((columns["image_ids"], columns["entity_of_row"]))
        return _rows({**columns, "attributes": np.array(attributes, dtype=object)}, order)
    items, _ = _items_of(connection, members, ids)
    return _rows(items, slice(None))


def count(connection: Connection, members: Members) -> int:
    """The images of all members of the block, whatever `first`, `before` and `never_same` say."""
    row = connection.execute(query("count_items"), members.parameters).fetchone()
    assert row is not None
    return int(row[0])


def load_by_block(
    connection: Connection,
    members: Members,
    ids: Collection[UUID],
    block_of: Callable[[Mapping[str, str | None]], Block | None],
) -> dict[Block, ImageSet]:
    """The images of those of the members that can match, by block."""
    items, properties = _items_of(connection, members, ids)
    rows: dict[Block, list[int]] = defaultdict(list)
    for row, its in enumerate(properties):
        if (block := block_of(its)) is not None:
            rows[block].append(row)
    return {block: _rows(items, own) for block, own in rows.items()}


def stream(connection: Connection, members: Members, part_images: int) -> Iterator[ImageSet]:
    """The images in parts of `part_images` and the rest of the last entity, by ascending entity.

    The caller uses the session for nothing else until they end.
    """
    if count(connection, members) <= part_images:
        yield load(connection, members)
        return
    parameters = {**members.parameters, "ordered": True}
    for part in read_parts(connection, query("copy_items"), parameters, _FIELDS, part_images):
        yield _image_set(*part)


def stream_near(
    connection: Connection,
    members: Members,
    sought: ImageSet,
    policy: Policy,
    part_images: int,
    floors: tuple[str, bool, bool] | None = None,
) -> Iterator[ImageSet]:
    """Yields in parts of `part_images` the images that reach the threshold with one of the images sought.

    With `floors` (a matcher, and whether members are its left and its right entities) only images that may enter the
    list of their entity. None of these is left out. Some others are included, as Postgres does not compute exact
    scores.
    """
    matcher, are_left, are_right = floors or ("", False, False)
    parameters = {
        **members.parameters,
        **{"matcher": matcher, "are_left": are_left, "are_right": are_right, "limit": policy.limit},
        "directions": list(sought.unit(slice(None)).astype(np.float32)),
        "weight": policy.attribute_weight,
        # the most that attributes and the rounding of the cosine add to a score
        "others": policy.attribute_weight + COARSE_ERROR,
        "threshold": policy.threshold,
    }
    for part in read_parts(connection, query("copy_items_near"), parameters, _FIELDS, part_images):
        yield _image_set(*part)


def only(images: ImageSet, entities: Ids) -> ImageSet:
    """The images of these entities."""
    rows = np.flatnonzero(np.isin(images.entities, entities)[images.entity_of_row])
    tokens = [images.tokens[row] for row in rows.tolist()]
    ids = images.entities[images.entity_of_row[rows]]
    return image_set(ids, images.image_ids[rows], images.embeddings[rows], tokens)


def _items_of(
    connection: Connection, members: Members, ids: Collection[UUID]
) -> tuple[dict[str, Any], list[Mapping[str, str | None]]]:
    """With the properties of each row's entity."""
    parameters = {**members.parameters, "ids": list(ids)}
    items = read_columns(connection, query("items_of"), parameters, _ITEMS)
    if members.never_same:
        parameters["name"] = members.never_same
        valued = read_columns(connection, query("values_of"), parameters, _VALUES)["id"]
        with_value = np.isin(items["entity_of_row"], valued)
        items = {name: column[with_value] for name, column in items.items()}
    return items, [json.loads(text) for text in items.pop("properties")]


def _rows(items: dict[str, Any], rows: list[int] | slice | Rows) -> ImageSet:
    columns = {name: column[rows] for name, column in items.items()}
    return _image_set(columns, columns.pop("attributes").tolist())


def _image_set(columns: dict[str, Any], attributes: list[bytes]) -> ImageSet:
    return image_set(**columns, tokens=[_tokens(text) for text in attributes])


@lru_cache(maxsize=100_000)
def _tokens(attributes: bytes) -> frozenset[str]:
    return attribute_tokens(json.loads(attributes))
