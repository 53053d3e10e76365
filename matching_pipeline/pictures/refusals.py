"""The reason that a server gives in the body of its refusal, in a form that may be shown."""

import json
import re
from typing import Any, Final

from matching_pipeline.pictures.printable_url import one_line, without_secrets

MAX_BODY: Final = 8192
MAX_LENGTH: Final = 200
IN_JSON: Final = ("message", "error_description", "msg", "detail", "error", "code")
IN_XML: Final = re.compile(r"<(Code|Message|AuthenticationErrorDetail|Details)>([^<]+)</", re.IGNORECASE)


def reason_in(body: bytes) -> str:
    """The reason in the answer of S3, Google's, Azure's and Supabase's storage, and others like them; empty if it has
    none."""
    text = body[:MAX_BODY].decode("utf-8", "replace").strip()
    if text.startswith("{"):
        reason = _in_json(text)
    elif text.startswith("<"):
        # a page has no such elements
        reason = ": ".join(dict.fromkeys(found[1].strip().partition("\n")[0] for found in IN_XML.findall(text)))
    else:
        reason = text.partition("\n")[0]
    reason = " ".join(one_line(without_secrets(reason)).split())
    return reason if len(reason) <= MAX_LENGTH else reason[:MAX_LENGTH] + "…"


def _in_json(text: str) -> str:
    try:
        value: Any = json.loads(text)
    except ValueError:
        return ""
    while isinstance(value, dict):
        value = next((value[name] for name in IN_JSON if value.get(name)), "")
    return str(value)
