"""Numbers, times and values as a page says them."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any


def number(value: float) -> str:
    """The number with narrow spaces between thousands."""
    return f"{value:,}".replace(",", "\u202f")


def count(value: int, one: str, many: str | None = None) -> str:
    return f"{number(value)} {one if value == 1 else many or one + 's'}"


def score(value: float) -> str:
    return f"{value:.3f}"


def percent(part: float, whole: float) -> str:
    """Never 100 % while a part lacks."""
    if not whole:
        return "–"
    share = 100 * part / whole
    return f"{min(share, 99.9) if part < whole else 100:.3g}\u202f%"


def ago(moment: datetime) -> str:
    return duration((datetime.now(UTC) - moment).total_seconds()) + " ago"


def duration(seconds: float) -> str:
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size or (seconds >= size and unit != "d"):
            return f"{seconds // size:.0f}\u202f{unit}"
    return f"{max(seconds, 0):.0f}\u202fs" if seconds >= 10 else f"{max(seconds, 0):.2g}\u202fs"


def value(attribute: Any) -> str:
    """A property or an attribute in words."""
    if isinstance(attribute, list):
        return ", ".join(map(value, attribute))
    return "–" if attribute is None else str(attribute)


def share(part: float) -> str:
    """The length of a bar for this share, if the whole is 100 units wide."""
    return f"{100 * min(max(part, 0), 1):.2f}"


def sentence(words: str) -> str:
    return words[:1].upper() + words[1:].rstrip(".") + "."


def money(usd: float) -> str:
    return f"${usd:,.2f}" if usd >= 1 or not usd else f"${usd:.4f}"


FILTERS: dict[str, Callable[..., str]] = {
    each.__name__: each for each in (number, count, score, percent, ago, duration, value, share, sentence, money)
}
