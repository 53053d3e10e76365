"""The entities that came nearest to a list and are not in it."""

import sys
from dataclasses import dataclass, replace
from uuid import UUID

import psycopg

from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import query
from matching_pipeline.matches.image_sets import PART_IMAGES, stream_near
from matching_pipeline.matches.kernel.columns import as_uuids
from matching_pipeline.matches.matching import attached
from matching_pipeline.matches.scoring import Scoring

BELOW = 0.2
"""How far below the threshold a list that is not full is searched."""
QUICK = "400ms"


@dataclass(frozen=True)
class NotKept:
    entity: UUID
    score: float
    missed_by: float
    because: str


def not_kept_quickly(connection: Connection, matcher: str, source: str, id: UUID, count: int) -> list[NotKept] | None:
    """None if it would hold up the page."""
    try:
        with connection.transaction():
            connection.execute(query("limit_statements_here"), {"limit": QUICK})
            found = not_kept(connection, matcher, source, id, count)
            connection.execute(query("limit_statements_here"), {"limit": "10s"})
            return found
    except psycopg.errors.QueryCanceled:
        return None


def not_kept(connection: Connection, matcher: str, source: str, id: UUID, count: int) -> list[NotKept]:
    """The best entities that are not in the list, and how much each lacks for the last place or the threshold."""
    rule = attached(connection, matcher).rule
    scoring = Scoring(connection, rule, PART_IMAGES)
    policy = scoring.policy
    kept = {
        row[0] for row in connection.execute(query("gallery_kept"), {"matcher": matcher, "source": source, "id": id})
    }
    is_full = len(kept) >= policy.limit
    lowest = policy.threshold if is_full else max(policy.threshold - BELOW, -1)
    wider = replace(policy, threshold=lowest, limit=policy.limit + count)
    found = []
    for members, here in scoring.in_blocks(source, [id]):
        (near,) = stream_near(connection, scoring.opposite(members), here, wider, sys.maxsize)
        pairs = scoring.top(source, here, near, wider)
        found = list(zip(as_uuids(pairs.right), pairs.similarity.tolist(), strict=True))
    floor = min((score for entity, score in found if entity in kept), default=policy.threshold)
    return [
        NotKept(entity, score, floor - score, "the last place")
        if is_full
        else NotKept(entity, score, policy.threshold - score, "the threshold")
        for entity, score in found
        if entity not in kept and (is_full or score < policy.threshold)
    ][:count]
