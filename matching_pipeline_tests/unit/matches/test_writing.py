"""Ids for new rows of `matches`."""

from matching_pipeline.matches.kernel.columns import as_uuids
from matching_pipeline.matches.writing import _new_ids


def test_new_ids_are_different_ascending_and_of_a_version_that_others_know() -> None:
    drawn = as_uuids(_new_ids(1000).values)
    assert len(set(drawn)) == 1000
    assert drawn == sorted(drawn)
    assert {id.version for id in drawn} == {7}


def test_ids_are_drawn_for_no_row() -> None:
    assert as_uuids(_new_ids(0).values) == []
