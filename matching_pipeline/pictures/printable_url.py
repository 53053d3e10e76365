"""URLs in a form that may appear in a log or a failure's message."""

import re

MAX_LENGTH = 300


def printable(url: str) -> str:
    """The URL without the parts that may be secret: user, password, and everything after a `?` or `#`."""
    without_user = re.sub(r"(?<=//)[^/?#]*@", "", url, count=1)
    without_query = re.sub(r"[?#].*", "?…", without_user, count=1, flags=re.DOTALL)
    return without_query if len(without_query) <= MAX_LENGTH else without_query[:MAX_LENGTH] + "…"


def one_line(text: str) -> str:
    """The text with a space in place of each character that a log or Postgres may refuse: line ends, NUL, …"""
    return "".join(character if character.isprintable() else " " for character in text)
