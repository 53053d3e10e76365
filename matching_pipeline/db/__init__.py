"""Postgres: connections, migrations, named queries, the embedded server."""
