"""Overlapping parts of a text that is longer than a model takes."""

from bisect import bisect_right
from collections.abc import Callable

LONGEST_TOKEN = 8
"""Characters."""
OVERLAP = 8
"""A part repeats the last eighth of the part before it, so that a sentence at the cut is whole in one of them."""


def parts(text: str, limit: int, estimate_tokens: Callable[[str], int]) -> list[str]:
    """The text itself where it has at most `limit` tokens, else parts that do, cut between words where there are any.

    `estimate_tokens` must not decrease as a text becomes longer.
    """
    if estimate_tokens(text) <= limit:
        return [text]
    found, begin = list[str](), 0
    while True:
        ends = range(begin + 1, min(len(text), begin + LONGEST_TOKEN * limit) + 1)
        # at least one character, however many tokens it has
        end = begin + max(bisect_right(ends, limit, key=lambda end: estimate_tokens(text[begin:end])), 1)
        if end == len(text):
            # no model embeds spaces
            return [part for part in [*found, text[begin:]] if part.strip()] or [text]
        eighth = (end - begin) // OVERLAP
        end = _after_space(text, end - eighth, end)
        found.append(text[begin:end])
        begin = max(begin + 1, _after_space(text, end - 2 * eighth, end - eighth))


def _after_space(text: str, first: int, last: int) -> int:
    """The last position after `first` that follows a space, or `last`."""
    return next((place for place in range(last, first, -1) if text[place - 1].isspace()), last)
