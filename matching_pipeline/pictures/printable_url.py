"""URLs in a form that may appear in a log or a failure's message."""

import re

MAX_LENGTH = 300
LONG = 40


def printable(url: str) -> str:
    """The URL without the parts that may be secret: user, password, and everything after a `?` or `#`."""
    if url[:5].lower() == "data:" and "," in url:
        return f"{url.partition(',')[0][:MAX_LENGTH]},…"
    without_user = re.sub(r"(?<=//)[^/?#]*@", "", url, count=1)
    without_query = re.sub(r"[?#].*", "?…", without_user, count=1, flags=re.DOTALL)
    return without_query if len(without_query) <= MAX_LENGTH else without_query[:MAX_LENGTH] + "…"


def without_secrets(text: str) -> str:
    """The text, its URLs as `printable` has them, and without long words of letters and digits, such as a token."""
    return " ".join(
        word if "://" in word or len(word) < LONG or word.isalpha() else "…"
        for word in with_printable_urls(text).split()
    )


def with_printable_urls(text: str) -> str:
    return re.sub(r"\S+://\S+", lambda url: printable(url[0]), text)


def one_line(text: str) -> str:
    """The text with a space in place of each character that a log or Postgres may refuse: line ends, NUL, …"""
    return "".join(character if character.isprintable() else " " for character in text)
