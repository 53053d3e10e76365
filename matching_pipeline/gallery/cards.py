"""A card shows one entity: its first thumbnail or the beginning of its text, and some words."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit
from uuid import UUID

import psycopg

from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import named_rows
from matching_pipeline.gallery.words import value

TEXT_LENGTH = 240
NAMING = ("title", "name")
"""Properties that hold a name."""
_WORDS = re.compile(r"([^\W\d_]{3,}(?:[-_ ]+[^\W_]+)*?[-_ ]+[^\W\d_]+)[-_ \d]*")


@dataclass(frozen=True)
class Card:
    source: str
    id: UUID
    key: str
    modality: str
    properties: Mapping[str, Any]
    item_count: int
    item: UUID | None
    """its first item with a thumbnail"""
    url: str | None
    """of that item"""
    attributes: Mapping[str, Any]
    """of that item"""
    text: str = ""

    @property
    def title(self) -> str:
        """What a person would call it, or its key."""
        named = (self.text.partition("\n")[0], *(self.properties.get(name) for name in NAMING))
        found = (*named, self.attributes.get("caption"), file_words(self.url or ""))
        return next((str(name).strip() for name in found if name and str(name).strip()), self.key)

    @property
    def note(self) -> str:
        """What a person would say next of it: its properties, or how many pictures it has."""
        told = {name: value(held) for name, held in self.properties.items() if held is not None}
        said = [held for name, held in told.items() if name not in NAMING and "://" not in held]
        return " · ".join(said) or (f"{self.item_count} pictures" if self.item_count > 1 else "")

    @property
    def body(self) -> str:
        """The text after its first line, in its paragraphs."""
        return self.text.partition("\n")[2].strip() or self.text

    @property
    def beginning(self) -> str:
        """The beginning of the text after its first line."""
        rest = " ".join(self.text.partition("\n")[2].split())
        return rest if len(rest) <= TEXT_LENGTH else rest[: TEXT_LENGTH - 1] + "…"


def file_words(url: str) -> str:
    """The words of a file's name, or nothing if it has no two of them."""
    name = unquote(urlsplit(url).path).rpartition("/")[2].rpartition(".")[0]
    found = _WORDS.fullmatch(name)
    return re.sub(r"[-_ ]+", " ", found[1]).capitalize() if found else ""


def cards_of(connection: Connection, source: str, ids: Sequence[UUID]) -> list[Card]:
    """The cards in the order of the ids, without ids that are not entities."""
    cards = {row["id"]: row for row in named_rows(connection, "gallery_cards", source=source, ids=list(ids))}
    texts = _texts(connection, source, [row["key"] for row in cards.values() if row["modality"] == "text"])
    return [Card(**cards[id], text=texts.get(cards[id]["key"], "")) for id in ids if id in cards]


def _texts(connection: Connection, source: str, keys: list[str]) -> dict[str, str]:
    """The app's own texts. If they cannot be read now, a card shows the key."""
    if not keys:
        return {}
    try:
        with connection.transaction():
            rows = named_rows(connection, "read_source", source=source, kind="entity", keys=keys)
    except (psycopg.ProgrammingError, psycopg.DataError):
        return {}
    return {row["entity_key"]: row["content"] or "" for row in rows}
