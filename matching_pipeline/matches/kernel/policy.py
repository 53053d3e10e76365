"""What a top-k list keeps."""

from dataclasses import dataclass

DECIMALS = 9
"""Scores are rounded to this many decimals, so that equal inputs tie."""

ROUNDING = 0.55 * 10.0**-DECIMALS
"""A score differs by half a decimal from its value before it was rounded. A bit more covers the error of float64."""


@dataclass(frozen=True)
class Policy:
    """A list keeps its best `limit` matches of those that score `threshold` or more."""

    threshold: float = 0.5
    limit: int = 20
    attribute_weight: float = 0.2
