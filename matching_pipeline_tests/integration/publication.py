"""What tests ask of pairs in a table of the app's own."""

from typing import Any
from uuid import UUID

from matching_pipeline.sources.declarations import Declarations
from matching_pipeline.sources.matcher import PublishedColumns
from matching_pipeline.sources.publications import publication_states
from matching_pipeline_tests.conftest import EXAMPLES
from matching_pipeline_tests.integration.school import School

COLUMNS = {"left": "face_a_id", "right": "face_b_id", "similarity": "similarity", "rank": "rank_for_a"}


def publishing(columns: dict[str, str] | None = None, **changes: Any) -> Declarations:
    """The example apps, whose faces publish otherwise."""
    matches = EXAMPLES.matches[0]
    project, face = matches.matchers
    assert face.publish is not None
    if columns is not None:
        changes["columns"] = PublishedColumns.model_validate(columns)
    face = face.model_copy(update={"publish": face.publish.model_copy(update=changes)})
    return EXAMPLES.model_copy(update={"matches": (matches.model_copy(update={"matchers": (project, face)}),)})


def state(school: School) -> tuple[int, bool, list[str]]:
    (state,) = (each for each in publication_states(school.connection) if each.matcher == "face")
    return state.unpublished, state.is_compared, state.reasons


def stored(school: School) -> set[frozenset[UUID]]:
    """The pairs of `matches`, whatever the app's table has."""
    rows = school.connection.execute("select left_id, right_id from matching_pipeline.matches where matcher = 'face'")
    return {frozenset(row) for row in rows}


def is_exact(school: School) -> bool:
    """Whether the app's table says of every pair what `matches` says."""
    rows = school.connection.execute(
        """select left_id, right_id, similarity, left_rank, right_rank
        from matching_pipeline.matches where matcher = 'face' order by 1, 2"""
    ).fetchall()
    return school.rows() == rows


def matched_pair(school: School) -> tuple[UUID, UUID]:
    """Two faces that match, and are published."""
    ann, bob = school.face_of("female"), school.face_of("male")
    school.process()
    assert school.pairs() == {frozenset((ann, bob))}
    return ann, bob
