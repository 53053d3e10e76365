"""The declaration of a matcher. The fields of a class are the attributes in YAML."""

from typing import Literal

from pydantic import Field

from matching_pipeline.sources.fields import Fields, FieldsWithOn, Name, Table


class PublishedColumns(Fields):
    """Columns of the app's table. Those of the two keys, and of the matcher if it is given, name a pair's row."""

    left: str
    """The column that holds the left entity's key."""
    right: str
    """The column that holds the right entity's key."""
    matcher: str | None = None
    """The column that holds the matcher's name."""
    similarity: str | None = None
    """The column that holds the score."""
    rank: str | None = None
    """The column that holds the right one's place in the left one's list."""
    right_rank: str | None = None
    """The column that holds the left one's place in the other list."""
    left_item: str | None = None
    """The column that holds the key of the left item of the best two."""
    right_item: str | None = None
    """The column that holds the key of the right one."""
    model: str | None = None
    """The column that holds the model's name."""
    computed_at: str | None = None
    """The column that holds when the pair was computed."""

    @property
    def names(self) -> list[str]:
        return [name for name in self.model_dump().values() if name]


class Publish(Fields):
    """A table of the app's own that gets a matcher's pairs, in the transaction that finds them."""

    table: Table
    """Your table, another than that of `except`."""
    columns: PublishedColumns
    """The columns to fill."""
    removed: Literal["delete", "keep"] = "delete"
    """What becomes of the row when its pair is gone: `delete` or `keep`."""


class Exceptions(FieldsWithOn):
    """A table of the app's whose rows are pairs that must not match."""

    table: Table
    """Your table that has a row for each pair that must not match."""
    left: str
    """Its column that names left entities."""
    right: str
    """Its column that names right entities."""
    on: str
    """What these two columns hold: a property of both sources, the user's column, or the key's."""
    both_ways: bool = False
    """Whether a row holds with left and right exchanged, too."""


class Matcher(Fields):
    """Two sources, and the rule for which entities of one match those of the other."""

    name: Name
    """The name of the matcher; its queue is `matches_` and the name."""
    left: Name
    """The source whose entities have lists."""
    right: Name
    """The source whose entities are listed."""
    # with examples Dagster makes no sample of the type itself, at which it fails
    columns: tuple[Name, Name] = Field(examples=[["left_id", "right_id"]])
    """The two columns of the view that hold the keys."""
    lists: Literal["left", "both"] = "left"
    """Whether the entities on both sides keep lists: `left` or `both`; a source that matches itself always has
    `both`."""
    same: tuple[Name, ...] = ()
    """Properties that must be equal."""
    opposite: dict[Name, tuple[str, str]] = Field({})
    """Properties that must have one value and the other: `{gender: [male, female]}`. Words that an enum does not
    have are refused."""
    never_same: str | None = None
    """A property, or the user's or the key's column, that must differ."""
    exceptions: Exceptions | None = Field(None, alias="except")
    """A table of yours whose rows are pairs that must not match."""
    top: int = Field(20, gt=0)
    """The length of a list, at first."""
    threshold: float = Field(0.5, ge=-1, le=1)
    """The least score, at first."""
    attribute_weight: float = Field(0.0, ge=0, le=1)
    """The weight of attributes in the score, at first."""

    publish: Publish | None = None
    """A table of yours that gets the pairs, in place of the view."""
    queue_view: Name | None = None
    """The name of a view of the queue."""
    queue_key: Name = "key"
    """The column of that view that holds the key."""

    @property
    def queue(self) -> str:
        return f"matches_{self.name}"

    @property
    def both(self) -> bool:
        """Whether right entities keep lists too."""
        return self.left == self.right or self.lists == "both"

    @property
    def keepers(self) -> tuple[str, ...]:
        """The sources whose entities keep lists."""
        return tuple(dict.fromkeys((self.left, self.right))) if self.both else (self.left,)
