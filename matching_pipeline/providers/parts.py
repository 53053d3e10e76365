"""Overlapping parts of a text that is longer than a model takes."""

from bisect import bisect_right
from collections.abc import Callable

CHARACTERS_PER_TOKEN = 8
"""The search for the end of a part tries at most this many for each token. Longer tokens make parts shorter."""
OVERLAP = 1 / 8
"""At least this share of a part is repeated in the next one, so that a short sentence at the cut is whole in one."""


def parts(text: str, limit: int, estimate_tokens: Callable[[str], int]) -> list[str]:
    """Returns [text] if it has at most `limit` tokens, or only spaces; otherwise overlapping parts within the limit.

    Each part ends after a space if there is one near its end. It has at least one character, even if that has more
    tokens than the limit. `estimate_tokens` must not decrease as a text becomes longer.
    """
    if estimate_tokens(text) <= limit:
        return [text]
    found, begin = list[str](), 0
    while True:
        ends = range(begin + 1, min(len(text), begin + CHARACTERS_PER_TOKEN * limit) + 1)
        end = begin + max(bisect_right(ends, limit, key=lambda end: estimate_tokens(text[begin:end])), 1)
        if end == len(text):
            # no model embeds a part that is only spaces
            return [part for part in [*found, text[begin:]] if part.strip()] or [text]
        shared = int((end - begin) * OVERLAP)
        end = _after_space(text, end - shared, end)
        found.append(text[begin:end])
        begin = max(begin + 1, _after_space(text, end - 2 * shared, end - shared))


def _after_space(text: str, first: int, last: int) -> int:
    """The last position after `first` that follows a space, or `last`."""
    return next((place for place in range(last, first, -1) if text[place - 1].isspace()), last)
