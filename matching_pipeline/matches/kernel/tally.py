"""What a search did, for measurements."""

from collections import Counter
from threading import Lock


class Tally:
    """How many pairs of images a search bounded in which way, and how many it scored."""

    def __init__(self) -> None:
        self.bounded = Counter[str]()
        """by the way of their first bound, pairs"""
        self.finer = 0
        """pairs of crowded tiles, whose bounds are float64 scores"""
        self.near = 0
        """pairs scored in float32"""
        self.exact = 0
        self._lock = Lock()

    def add(self, way: str | None = None, pairs: int = 0, *, finer: int = 0, near: int = 0, exact: int = 0) -> None:
        with self._lock:
            if way:
                self.bounded[way] += pairs
            self.finer += finer
            self.near += near
            self.exact += exact
