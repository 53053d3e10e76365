"""A plot of how long a change takes to become a match, minute by minute, as lines of an SVG."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import log10
from typing import Any

WIDTH, HEIGHT = 720, 200
LEFT, BOTTOM = 60, 24
LOWEST, HIGHEST = 0.01, 1000.0
"""Seconds, on a scale of powers of ten."""


@dataclass(frozen=True)
class Mark:
    x: float
    """where the minute is"""
    middle: float
    """the height of the median"""
    slow: float
    """the height below which 95 of 100 lie"""
    jobs: int
    seconds: float
    minutes_ago: int


@dataclass(frozen=True)
class Plot:
    marks: list[Mark]
    lines: list[tuple[float, str]]
    """the height of each line of the scale, with its words"""
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    bottom: int = HEIGHT - BOTTOM


def latency_plot(minutes: Iterable[Mapping[str, Any]]) -> Plot:
    step = (WIDTH - LEFT) / 60
    marks = [
        Mark(
            x=round(WIDTH - (row["minutes_ago"] + 0.5) * step, 1),
            middle=_height(row["middle"]),
            slow=_height(row["slow"]),
            jobs=row["jobs"],
            seconds=row["middle"],
            minutes_ago=row["minutes_ago"],
        )
        for row in minutes
        if row["minutes_ago"] < 60
    ]
    scale = ((0.1, "0.1 s"), (1.0, "1 s"), (10.0, "10 s"), (100.0, "100 s"))
    return Plot(marks, [(_height(seconds), words) for seconds, words in scale])


def _height(seconds: float) -> float:
    share = log10(min(max(seconds, LOWEST), HIGHEST) / LOWEST) / log10(HIGHEST / LOWEST)
    return round((HEIGHT - BOTTOM) * (1 - share), 1)
