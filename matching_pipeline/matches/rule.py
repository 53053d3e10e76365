"""Which entities may match by a matcher: its two sources, their blocks, and the sources that keep lists."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np

from matching_pipeline.matches.kernel.columns import Ids, Mask

Block = tuple[tuple[str, str], ...]
"""The properties that all entities of a block have, each a name and a value."""


@dataclass(frozen=True)
class Rule:
    """Left entities of a block match right entities of the opposite block.

    The two blocks have the same values of `same` and opposed values of `opposite`.
    """

    matcher: str
    left: str
    right: str
    same: tuple[str, ...] = ()
    opposite: tuple[tuple[str, tuple[str, str]], ...] = ()
    """by property, the two values of which one side has one and the other side the other"""
    both: bool = False
    """whether right entities keep lists too"""
    never_same: str | None = None
    """a column or property that differs between the two entities"""
    has_exceptions: bool = False
    """whether a table of the app's names pairs that must not match"""

    @property
    def is_within(self) -> bool:
        """Whether the entities of one source match each other."""
        return self.left == self.right

    @property
    def restricts(self) -> bool:
        """Whether some pairs of two opposite blocks must not match. An entity never matches itself."""
        return bool((self.is_within and not self.opposite) or self.never_same or self.has_exceptions)

    @property
    def sources(self) -> tuple[str, ...]:
        return (self.left,) if self.is_within else (self.left, self.right)

    @property
    def keepers(self) -> tuple[str, ...]:
        """The sources whose entities keep lists."""
        return self.sources if self.both else (self.left,)

    def other(self, source: str) -> str:
        return self.right if source == self.left else self.left

    def are_left(self, source: str, owners: Ids, listed: Ids) -> Mask:
        """Which owners of lists are the left entities of their pairs. Within a source these have the lower ids."""
        return owners < listed if self.is_within else np.full(len(owners), source == self.left)

    def block_of(self, properties: Mapping[str, str | None]) -> Block | None:
        """The block of an entity with these properties; None if it can match no other."""
        block = []
        for name in (*self.same, *dict(self.opposite)):
            value = properties.get(name)
            if value is None or value not in dict(self.opposite).get(name, (value,)):
                return None
            block.append((name, value))
        return tuple(block)

    def blocks_with(self, same: Mapping[str, str]) -> Iterator[Block]:
        """All blocks with these values of `same`."""
        for values in product(*(values for _, values in self.opposite)):
            opposed = zip(dict(self.opposite), values, strict=True)
            yield (*((name, same[name]) for name in self.same), *opposed)

    def opposite_of(self, block: Block) -> Block:
        opposite = dict(self.opposite)
        return tuple((name, _other_of(opposite[name], value) if name in opposite else value) for name, value in block)


def _other_of(values: tuple[str, str], value: str) -> str:
    first, second = values
    return second if value == first else first
