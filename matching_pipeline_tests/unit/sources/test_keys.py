"""The ids of entities and items: Python and SQL make the same."""

from uuid import UUID, uuid4

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from matching_pipeline.db.connections import Connection
from matching_pipeline.sources.keys import key_id

UUIDS = st.uuids().map(str)
KEYS = st.one_of(
    UUIDS,
    UUIDS.map(str.upper),
    UUIDS.map(lambda key: f"{{{key}}}"),
    UUIDS.map(lambda key: key + "\n"),
    st.integers(-(2**63), 2**63 - 1).map(str),
    # Postgres stores neither NUL nor half of a surrogate pair
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(keys=st.lists(KEYS, max_size=50))
def test_python_and_sql_make_the_same_ids(connection: Connection, keys: list[str]) -> None:
    query = "select matching_pipeline.key_ids(%s::text[])"
    assert connection.execute(query, (keys,)).fetchall() == [([key_id(key) for key in keys],)]


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(keys=st.lists(UUIDS, max_size=50))
def test_ids_of_uuids_sort_as_the_keys_do(connection: Connection, keys: list[str]) -> None:
    rows = connection.execute(
        "select key from unnest(%s::text[]) as key order by matching_pipeline.key_id(key)", (keys,)
    ).fetchall()
    assert [key for (key,) in rows] == sorted(keys) == sorted(keys, key=key_id)


@given(one=KEYS, other=KEYS)
def test_other_ids_sort_as_the_first_eight_bytes_of_the_keys_do(one: str, other: str) -> None:
    first, second = (key.encode()[:8].ljust(8, b"\0") for key in (one, other))
    if not {one, other} & {str(UUID(key)) for key in (one, other) if _is_uuid(key)} and first < second:
        assert key_id(one) < key_id(other)


def test_an_id_is_the_key_only_where_the_key_is_written_as_postgres_writes_a_uuid() -> None:
    key = str(uuid4())
    assert key_id(key) == UUID(key)
    assert key_id(key.upper()) != UUID(key)
    assert key_id("17") != key_id("017")


def _is_uuid(key: str) -> bool:
    try:
        UUID(key)
    except ValueError:
        return False
    return True
