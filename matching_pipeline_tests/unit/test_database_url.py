"""DATABASE_URL as other tools write it."""

import pytest
from psycopg.conninfo import conninfo_to_dict

from matching_pipeline.database_url import libpq_url
from matching_pipeline.db.connections import connect
from matching_pipeline.errors import ConfigurationError
from matching_pipeline.settings import Settings


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("postgres://u@h/db", "postgresql://u@h/db"),
        ("postgresql+psycopg://u@h/db", "postgresql://u@h/db"),
        ("postgresql+psycopg2://u@/db?host=/run/pg", "postgresql://u@/db?host=/run/pg"),
        ("postgresql+asyncpg://u@h/db?ssl=require", "postgresql://u@h/db?sslmode=require"),
        ("postgresql://u@h:5432/db?schema=public&connection_limit=5&pool_timeout=0", "postgresql://u@h:5432/db"),
        ("postgresql://u@h/db?schema=app&sslmode=require&pgbouncer=false", "postgresql://u@h/db?sslmode=require"),
        ("postgres://u@h/db?sslmode=no-verify", "postgresql://u@h/db?sslmode=require"),
        ("postgres://u@h/db?ssl=true", "postgresql://u@h/db?sslmode=require"),
        ("postgres://u@h/db?sslmode=require&supa=base-pooler.x", "postgresql://u@h/db?sslmode=require"),
        ("postgresql://u@h/db?options=-c%20x%3Dy&application_name=a+b", "postgresql://u@h/db?options=-c%20x%3Dy&application_name=a%20b"),
        ("host=h dbname=db", "host=h dbname=db"),
        ("", ""),
    ],
)  # fmt: skip
def test_a_url_of_another_tool_is_taken(written: str, read: str) -> None:
    assert libpq_url(written) == read
    assert libpq_url(read) == read
    conninfo_to_dict(read)


def test_user_password_and_host_are_not_touched() -> None:
    parameters = conninfo_to_dict(
        libpq_url("postgres://an%40a:p%3Fw%23%26x@h1:1,h2:2/d%20b?schema=x&channel_binding=require")
    )
    assert parameters == {
        "user": "an@a", "password": "p?w#&x", "host": "h1,h2", "port": "1,2", "dbname": "d b",
        "channel_binding": "require",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("url", "parameter"),
    [
        ("postgresql://u:hunter2@h:6543/db?pgbouncer=true", "pgbouncer"),
        ("postgresql://u:hunter2@h/db?sslaccept=strict", "sslaccept"),
        ("postgresql://u:hunter2@h/db?currentSchema=app", "currentSchema"),
    ],
)
def test_a_parameter_that_cannot_be_taken_is_named(url: str, parameter: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        connect(url)
    assert f"DATABASE_URL: its parameter {parameter} " in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_the_settings_hold_the_url_as_the_server_reads_it() -> None:
    settings = Settings(database_url="postgresql+psycopg://u@db.example.com/shop?schema=public")
    assert settings.database_url == "postgresql://u@db.example.com/shop"
    assert settings.pictures_url.endswith("/generated_pictures/db.example.com_shop")
