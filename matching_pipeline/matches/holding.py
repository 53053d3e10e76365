"""Keeps the images of blocks in memory between jobs, and updates them by the records of what has changed.

Each statement that changes what an image set reads records the entities in `entity_changes`, with its transaction's
number (`sql/repeatable/5_changes.sql`). A block is held together with the snapshot of its last look at that table. So
the next look finds exactly the transactions that this snapshot did not see. A rolled back change left no record.

The session's own transaction is different: it sees its own changes, which may still be rolled back. So the entities
that it loaded are loaded again at the next look, also after a commit.

A session holds no more images than the matcher may hold at once. Blocks end with the session: a server that was
restarted or restored has no reader with an old snapshot.
"""

from collections import OrderedDict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import NamedTuple
from uuid import UUID
from weakref import WeakKeyDictionary

from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import query
from matching_pipeline.matches.image_sets import Members, count, load
from matching_pipeline.matches.kernel.columns import as_ids, as_uuids
from matching_pipeline.matches.kernel.held import HeldImages
from matching_pipeline.matches.kernel.images import ImageSet
from matching_pipeline.matches.kernel.policy import Policy

MOST_CHANGES = 500
"""To load a block again costs less than to replace more entities."""
REMEMBERED = 1000
"""Blocks that a session knows to have been sought. A block is held from the second time on."""


class Look(NamedTuple):
    """The changes of a source that the last look did not see, and those by the session's own transaction."""

    snapshot: str
    own: str | None
    """the number of the session's own transaction, which its snapshots count as seen; None if it has none"""
    all_changed: bool
    changed: Sequence[UUID]
    tails: Sequence[int]
    """the ends of the ids of entities that were deleted or lost something"""


@dataclass
class HeldBlock:
    images: HeldImages
    look: Look
    doubtful: Collection[UUID]
    """the entities that were loaded while the session's own transaction could be rolled back"""


@dataclass
class SessionBlocks:
    """The blocks that one session holds, the last used ones last."""

    held: OrderedDict[Members, HeldBlock] = field(default_factory=OrderedDict)
    sought: OrderedDict[Members, None] = field(default_factory=OrderedDict)

    def is_due(self, members: Members) -> bool:
        """Whether the block was sought before."""
        before = members in self.sought
        self.sought[members] = None
        self.sought.move_to_end(members)
        if len(self.sought) > REMEMBERED:
            self.sought.popitem(last=False)
        return before

    def make_room(self, images: int, most: int) -> None:
        while self.held and images + sum(len(block.images) for block in self.held.values()) > most:
            self.held.popitem(last=False)


_sessions: WeakKeyDictionary[Connection, SessionBlocks] = WeakKeyDictionary()
_lock = Lock()


def held_near(
    connection: Connection, members: Members, sought: ImageSet, policy: Policy, most_images: int
) -> ImageSet | None:
    """The members' images that reach the threshold with one of those sought, and few others; None if the block is not
    held."""
    with _lock:
        session = _sessions.setdefault(connection, SessionBlocks())
    block = _up_to_date(connection, members, session.held.pop(members, None))
    if block is None and session.is_due(members):
        block = _loaded(connection, members, session, most_images)
    if block is None:
        return None
    session.make_room(len(block.images), most_images)
    session.held[members] = block
    return block.images.near(sought, policy)


def _up_to_date(connection: Connection, members: Members, block: HeldBlock | None) -> HeldBlock | None:
    """None if the block must be loaded again."""
    if block is None:
        return None
    look = _look(connection, members.source, block.look)
    entities = {*look.changed, *block.doubtful, *as_uuids(block.images.with_tails(look.tails))}
    if look.all_changed or len(entities) > MOST_CHANGES:
        return None
    if entities and not block.images.replace(as_ids(entities), load(connection, members, entities)):
        return None
    return HeldBlock(block.images, look, entities if look.own else ())


def _loaded(connection: Connection, members: Members, session: SessionBlocks, most_images: int) -> HeldBlock | None:
    """None if the block has too many images or none, or if a rollback could bring back others."""
    look = _look(connection, members.source, None)
    if look.all_changed or look.tails:
        return None
    if not 0 < (images_there := count(connection, members)) <= most_images:
        return None
    session.make_room(images_there, most_images)
    images = load(connection, members)
    return HeldBlock(HeldImages(images), look, look.changed) if len(images.image_ids) else None


def _look(connection: Connection, source: str, last: Look | None) -> Look:
    parameters = {"source": source, "snapshot": last and last.snapshot, "own": last and last.own}
    row = connection.execute(query("changes_since"), parameters).fetchone()
    assert row is not None
    return Look(*row)


def forget_changes(connection: Connection) -> int:
    return connection.execute(query("forget_changes")).rowcount
