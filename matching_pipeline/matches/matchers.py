"""The matchers that are attached, each as the implementation that keeps its lists."""

from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import query
from matching_pipeline.errors import ConfigurationError
from matching_pipeline.matches.image_sets import PART_IMAGES
from matching_pipeline.matches.match_table import Sides
from matching_pipeline.matches.picture_matcher import PictureMatcher
from matching_pipeline.matches.vector_matcher import VectorMatcher
from matching_pipeline.sources.declarations import Matcher

Implementation = PictureMatcher | VectorMatcher


def implementation(matcher: Matcher, part_images: int = PART_IMAGES) -> Implementation:
    """A matcher of a source with itself compares vectors of the app's; any other compares pictures."""
    sides = Sides(matcher.name, matcher.left, matcher.right)
    if matcher.left == matcher.right:
        return VectorMatcher(sides, matcher.same, dict(matcher.opposite))
    return PictureMatcher(sides, part_images)


def attached(connection: Connection, name: str, part_images: int = PART_IMAGES) -> Implementation:
    """Raises ConfigurationError where no such matcher is attached."""
    row = connection.execute(query("matcher"), {"matcher": name}).fetchone()
    if row is None:
        raise ConfigurationError(f"there is no matcher {name}: declare it, then run `matching-pipeline attach`")
    return implementation(Matcher.model_validate(row[0]), part_images)


def all_attached(connection: Connection, part_images: int = PART_IMAGES) -> list[Implementation]:
    rows = connection.execute(query("attached_matchers")).fetchall()
    return [implementation(Matcher.model_validate(declaration), part_images) for _, declaration in rows]
