"""Users of the demo's face-match app. Their faces are vectors, which the app makes and the pipeline matches."""

import uuid
from dataclasses import dataclass
from typing import Final

import numpy as np

NAMESPACE: Final = uuid.UUID("6f1d1c0e-7a53-4f0e-9a3b-2f9f6c1b8d43")
DIMENSIONS: Final = 512
SCHOOLS: Final = {"Riverside": 16, "Hill Street": 12, "Harbour": 6}
"""The number of users of each gender, by school."""
LOOKS: Final = 4
"""Faces of users who share a look have a similarity of about 0.7; other faces have one of about 0."""


@dataclass(frozen=True)
class SampleUser:
    """Ids and embeddings stay the same from run to run."""

    id: uuid.UUID
    school: str
    gender: str
    faces: list[tuple[uuid.UUID, list[float]]]


def sample_users() -> list[SampleUser]:
    looks = np.random.default_rng(0).normal(size=(LOOKS, DIMENSIONS))
    return [
        SampleUser(uuid.uuid5(NAMESPACE, name), school, gender, _faces(name, looks[number % LOOKS], 1 + number % 2))
        for school, size in SCHOOLS.items()
        for gender in ("female", "male")
        for number in range(size)
        for name in [f"{school}/{gender}/{number}"]
    ]


def _faces(
    user: str, look: np.ndarray[tuple[int], np.dtype[np.float64]], count: int
) -> list[tuple[uuid.UUID, list[float]]]:
    ids = [uuid.uuid5(NAMESPACE, f"{user}/{number}") for number in range(count)]
    return [
        (face_id, (look + np.random.default_rng(face_id.int).normal(scale=0.65, size=DIMENSIONS)).tolist())
        for face_id in ids
    ]
