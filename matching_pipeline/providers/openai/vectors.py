"""The vectors of an answer, each with the text that it belongs to."""

import binascii
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from matching_pipeline.providers.openai.faults import MalformedResponse

Vector = NDArray[np.float32]


def vectors(body: Any, count: int) -> dict[int, Vector | None]:
    """The vectors by the position of their texts, as the answer states it; None for one that cannot be read.

    Raises MalformedResponse if a position is stated twice or is out of range: its vector may be another text's.
    """
    entries = body.get("data") if isinstance(body, dict) else None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise MalformedResponse("it has no list of embeddings")
    positions = _positions(entries, count)
    if not positions or len({*positions}) < len(positions) or not {*positions} <= {*range(count)}:
        raise MalformedResponse(f"for {count} texts it holds embeddings of the indexes {positions[:200]}")
    return {position: _decoded(entry.get("embedding")) for position, entry in zip(positions, entries, strict=True)}


def _positions(entries: Sequence[dict[str, Any]], count: int) -> list[Any]:
    """Some servers state no positions. Others leave out the zero of the first."""
    stated = [entry.get("index") for entry in entries]
    if len(entries) == count and not any(type(position) is int for position in stated):
        return list(range(count))
    return [0 if position is None else position if type(position) is int else -1 for position in stated]


def _decoded(embedding: Any) -> Vector | None:
    try:
        if isinstance(embedding, str):
            return np.frombuffer(binascii.a2b_base64(embedding, strict_mode=True), dtype="<f4")
        row = np.array(embedding, dtype=np.float32)
    except (ValueError, TypeError):
        return None
    return row if row.ndim == 1 else None
