"""A proposal names what the catalog shows, each with a reason, and can be attached."""

from pathlib import Path

from matching_pipeline.db.connections import Connection
from matching_pipeline.sources.attach import fit_problems
from matching_pipeline.sources.documents import load
from matching_pipeline.sources.guess import guess
from matching_pipeline.sources.matcher import Exceptions, Publish, PublishedColumns

TABLES = """
create schema app;
create table app.members (id bigint primary key, school text, gender text);
create table app.faces (
    id uuid primary key, member_id bigint references app.members on delete cascade, embedding vector(4)
);
create table app.blocked_members (
    blocker_id bigint references app.members on delete cascade,
    blocked_id bigint references app.members on delete cascade
);
create table app.face_matches (
    id bigint generated always as identity, face_id uuid not null references app.faces on delete cascade,
    other_face_id uuid not null references app.faces on delete cascade, score real not null, seen_at timestamptz
);
create table app.resumes (id uuid primary key, user_id uuid, title text, body text);
create table app.postings (id uuid primary key, title text, description text);
-- the pipeline cannot fill it: nothing gives the column stage
create table app.suggested_postings (
    posting_id uuid references app.postings, resume_id uuid references app.resumes, stage text not null
)
"""


def test_users_blocked_pairs_and_tables_of_results_are_proposed(connection: Connection, tmp_path: Path) -> None:
    connection.execute(TABLES.encode())
    proposal = guess(connection)
    (tmp_path / "defs.yaml").write_text(proposal)
    declared = load(tmp_path)
    assert fit_problems(connection, declared) == []
    by_name = {matcher.name: matcher for matcher in declared.matchers}
    face, posting = by_name["face"], by_name["posting"]
    assert (declared.source("face").user, declared.source("resume").user) == ("member_id", "user_id")
    assert (face.same, face.opposite) == (("school",), {"gender": ("female", "male")})
    assert face.exceptions == Exceptions(
        table="app.blocked_members", left="blocker_id", right="blocked_id", on="member_id", both_ways=True
    )
    columns = PublishedColumns(left="face_id", right="other_face_id", similarity="score")
    assert face.publish == Publish(table="app.face_matches", columns=columns)
    assert (posting.right, posting.lists, posting.publish) == ("resume", "both", None)
    lines = proposal.splitlines()
    attributes = [place for place, line in enumerate(lines) if line.startswith("  ") and "#" not in line]
    assert all(lines[place - 1].strip().startswith("# ") for place in attributes)
