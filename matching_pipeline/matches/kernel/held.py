"""Images that are kept between searches, and those of them that a few others may match."""

from collections.abc import Collection

import numpy as np

from matching_pipeline.matches.kernel.columns import Ids, Rows
from matching_pipeline.matches.kernel.images import ORDINARY_LENGTHS, ImageSet, image_set
from matching_pipeline.matches.kernel.policy import Policy
from matching_pipeline.matches.kernel.products import one_thread_each

ROOM = 0.05
"""Share of further images for which there is room. Larger arrays would have to be copied."""
COARSE_ERROR = 0.002
"""Bounds the error of a float32 inner product with a direction, for each unit of length. The sum's error is n · 2⁻²⁴,
below 0.001 for the 16,000 dimensions that pgvector allows; a few units in the last place come on top."""


class HeldImages:
    """The images of some entities, in any order."""

    def __init__(self, images: ImageSet) -> None:
        self._count, room = 0, int(len(images.image_ids) * (1 + ROOM)) + 100
        self._entities, self._image_ids = np.empty(room, dtype="S16"), np.empty(room, dtype="S16")
        self._embeddings = np.empty((room, images.embeddings.shape[1]), dtype=np.float32)
        self._lengths = np.empty(room, dtype=np.float32)
        self._tokens = [frozenset[str]()] * room
        self._append(images)

    def __len__(self) -> int:
        return self._count

    def replace(self, entities: Ids, images: ImageSet) -> bool:
        """Puts these images in the place of all images of these entities. False, and no change, without room."""
        gone = self._rows_of(entities)
        if self._count - len(gone) + len(images.image_ids) > len(self._entities):
            return False
        if len(images.image_ids) and images.embeddings.shape[1] != self._embeddings.shape[1]:
            return False
        for row in sorted(gone.tolist(), reverse=True):
            self._count -= 1
            for column in (self._entities, self._image_ids, self._embeddings, self._lengths):
                column[row] = column[self._count]
            self._tokens[row] = self._tokens[self._count]
        self._append(images)
        return True

    def with_tails(self, tails: Collection[int]) -> Ids:
        """The entities whose ids end with one of these numbers of two bytes."""
        held = self._entities[: self._count]
        ends = np.isin(held.view(">u2").reshape(-1, 8)[:, -1], list(tails))
        return np.unique(held[ends])

    def near(self, sought: ImageSet, policy: Policy) -> ImageSet:
        """All images that reach the threshold with one of those sought, and few others."""
        if not len(sought.image_ids):
            return image_set(self._entities[:0], self._image_ids[:0], self._embeddings[:0], [])
        directions, held = sought.unit(slice(None)).astype(np.float32), slice(0, self._count)
        # a wait for a second thread may cost more than it saves
        with one_thread_each(), np.errstate(all="ignore"):
            cosines = (self._embeddings[held] @ directions.T).max(axis=1, initial=-np.inf) / self._lengths[held]
        weight, lengths = policy.attribute_weight, self._lengths[held]
        reaching = (1 - weight) * cosines + weight + COARSE_ERROR >= policy.threshold
        reaching |= (lengths < ORDINARY_LENGTHS[0]) | (lengths > ORDINARY_LENGTHS[1])
        rows = np.flatnonzero(reaching)
        rows = rows[np.lexsort((self._image_ids[rows], self._entities[rows]))]
        tokens = [self._tokens[row] for row in rows.tolist()]
        return image_set(self._entities[rows], self._image_ids[rows], self._embeddings[rows], tokens)

    def _append(self, images: ImageSet) -> None:
        if not len(images.image_ids):
            return
        rows = slice(self._count, self._count + len(images.image_ids))
        self._entities[rows] = images.entities[images.entity_of_row]
        self._image_ids[rows] = images.image_ids
        self._embeddings[rows] = images.embeddings
        self._lengths[rows] = np.clip(images.norms, 0, np.finfo(np.float32).max)
        self._tokens[rows] = images.tokens
        self._count = rows.stop

    def _rows_of(self, entities: Ids) -> Rows:
        """Compares the first halves of ids as numbers, which is faster, then the few ids that are left."""
        halves = self._entities[: self._count].view(np.uint64)[::2]
        rows = np.flatnonzero(np.isin(halves, entities.view(np.uint64)[::2]))
        return rows[np.isin(self._entities[rows], entities)]
