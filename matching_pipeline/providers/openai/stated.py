"""What a response says of its error, in any of the forms that servers use."""

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import httpx2

RATE_LIMIT_PAUSE = timedelta(seconds=20)
"""For a rate limit that states no time, or a time that is over."""
LONGEST_PAUSE = timedelta(hours=1)
LONGEST_MESSAGE = 1000
STATUS_OF_CODES = {
    "rate_limit_exceeded": 429,
    "invalid_api_key": 401,
    "model_not_found": 404,
    "invalid_request_error": 400,
}
"""For an error in the body of an answer with status 200."""
_TAG = re.compile(r"<(script|style)\b.*?</\1\s*>|<[^>]*>", re.DOTALL | re.IGNORECASE)
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|h|m|s|)")
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001, "": 1.0}


@dataclass(frozen=True)
class Stated:
    status: int
    message: str
    code: str = ""
    type: str = ""
    parameter: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


class StatedFault(Exception):
    """An answer with status 200 states an error."""

    def __init__(self, stated: Stated) -> None:
        super().__init__(stated.message)
        self.stated = stated


def stated_by(response: "httpx2.Response") -> Stated:
    try:
        body = response.json()
    except ValueError:
        body = response.text
    return _stated(response.status_code, body, response.headers)


def require_no_error(body: Any, headers: Mapping[str, str]) -> None:
    """Raises StatedFault if the body of an answer states an error, for itself or for its first choice."""
    if not isinstance(body, dict):
        return
    first = next(iter(body.get("choices") or ()), None)
    error = body.get("error") or (first.get("error") if isinstance(first, dict) else None)
    if error:
        stated = _stated(0, {"error": error}, headers)
        raise StatedFault(Stated(_status(stated), *list(vars(stated).values())[1:]))


def _status(stated: Stated) -> int:
    """The HTTP status that the code in the body means; 500 if it has none."""
    if stated.code.isdecimal() and 400 <= int(stated.code) <= 599:
        return int(stated.code)
    named = (STATUS_OF_CODES.get(name) for name in (stated.code, stated.type))
    return next(filter(None, named), 500)


def _stated(status: int, body: Any, headers: Mapping[str, str]) -> Stated:
    error = body[0] if isinstance(body, list) and body else body
    if isinstance(error, dict):
        error = next((error[name] for name in ("error", "detail") if error.get(name)), error)
    if not isinstance(error, dict):
        return Stated(status, _message(status, error), headers=headers)
    code, kind, parameter = (_word(error.get(name)) for name in ("code", "type", "param"))
    message = next((error[name] for name in ("message", "msg", "error") if error.get(name)), error)
    return Stated(status, _message(status, message), code, kind, parameter, headers)


def _word(value: object) -> str:
    return str(value) if isinstance(value, (str, int)) else ""


def _message(status: int, error: Any) -> str:
    """The message in one line. A page is read without its tags, and a list as the messages of its entries."""
    if isinstance(error, list):
        error = "; ".join(str(each.get("msg", each)) if isinstance(each, dict) else str(each) for each in error)
    text = " ".join(_TAG.sub(" ", str(error)).split())
    return text[:LONGEST_MESSAGE] or f"status {status} without a reason"


def pause(headers: Mapping[str, str]) -> timedelta:
    """How long the provider is not to be asked, by the headers of a rate limit."""
    return stated_pause(headers) or RATE_LIMIT_PAUSE


def stated_pause(headers: Mapping[str, str]) -> timedelta | None:
    for seconds in (_retry_after(headers), _reset(headers)):
        if seconds is not None and seconds > 0:
            return min(timedelta(seconds=max(seconds, 1)), LONGEST_PAUSE)
    return None


def seconds_of(duration: str) -> float | None:
    """The seconds of "6m0s", "120ms" or "1.5", the forms in which rate limits are stated; None for anything else."""
    parts = _DURATION.findall(duration)
    if not parts or "".join(number + unit for number, unit in parts) != duration:
        return None
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def _retry_after(headers: Mapping[str, str]) -> float | None:
    if (milliseconds := seconds_of(headers.get("retry-after-ms", ""))) is not None:
        return milliseconds / 1000
    stated = headers.get("retry-after", "")
    if (seconds := seconds_of(stated)) is not None:
        return seconds
    try:
        return parsedate_to_datetime(stated).timestamp() - time.time()
    except (ValueError, OverflowError):
        return None


def _reset(headers: Mapping[str, str]) -> float | None:
    """The seconds until the limits that are used up allow requests again."""
    resets = [
        seconds_of(headers.get(f"x-ratelimit-reset-{what}", "")) or 0
        for what in ("requests", "tokens")
        if headers.get(f"x-ratelimit-remaining-{what}") == "0"
    ]
    return max(resets, default=None)
