"""Reads DATABASE_URL as other tools write it: Prisma, SQLAlchemy, drivers of Node and Vercel's integrations."""

import re
from urllib.parse import parse_qsl, quote, urlencode

from matching_pipeline.errors import ConfigurationError

_SCHEME = re.compile(r"^postgres(?:ql)?(?:\+\w+)?://")
_OPTIONS_OF_OTHER_CLIENTS = {
    *("schema", "connection_limit", "pool_timeout", "socket_timeout", "statement_cache_size"),
    *("prepared_statements", "uselibpqcompat", "supa", "workaround"),
}
"""Parameters that say how another client uses the server, not which server it is."""
_SSL_MODES = {"true": "require", "1": "require", "no-verify": "require", "false": "disable", "0": "disable"}
"""What Node's and SQLAlchemy's drivers write for modes of libpq."""


def libpq_url(url: str) -> str:
    """The same URL with the scheme and the parameters that libpq knows. A connection string of another form stays.

    Raises ConfigurationError if the URL leads to a transaction pooler.
    """
    if not _SCHEME.match(url):
        return url
    address, _, query = _SCHEME.sub("postgresql://", url).partition("?")
    kept = []
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name == "pgbouncer":
            if value != "false":
                raise ConfigurationError(
                    "DATABASE_URL: its parameter pgbouncer says that a pooler shares sessions, and the pipeline "
                    "needs sessions of its own: name the server's own address, which is Prisma's directUrl"
                )
        elif name in ("ssl", "sslmode"):
            kept.append(("sslmode", _SSL_MODES.get(value, value)))
        elif name not in _OPTIONS_OF_OTHER_CLIENTS:
            kept.append((name, value))
    return f"{address}?{urlencode(kept, quote_via=quote, safe='/')}" if kept else address
