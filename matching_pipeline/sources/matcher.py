"""What a team declares of a matcher. Each class has the fields of its YAML."""

from typing import Literal

from pydantic import Field

from matching_pipeline.sources.fields import Fields, FieldsWithOn, Name, Table


class PublishedColumns(Fields):
    """Columns of the app's table. Those of the two keys, and of the matcher if it is given, name a pair's row."""

    left: str = Field(description="the column that holds the left entity's key")
    right: str = Field(description="the column that holds the right entity's key")
    matcher: str | None = Field(None, description="the column that holds the matcher's name")
    similarity: str | None = Field(None, description="the column that holds the score")
    rank: str | None = Field(None, description="the column that holds the right one's place in the left one's list")
    right_rank: str | None = Field(None, description="the column that holds the left one's place in the other list")
    left_item: str | None = Field(None, description="the column that holds the key of the left item of the best two")
    right_item: str | None = Field(None, description="the column that holds the key of the right one")
    model: str | None = Field(None, description="the column that holds the model's name")
    computed_at: str | None = Field(None, description="the column that holds when the pair was computed")

    @property
    def names(self) -> list[str]:
        return [name for name in self.model_dump().values() if name]


class Publish(Fields):
    """A table of the app's own that gets a matcher's pairs, in the transaction that finds them."""

    table: Table = Field(description="the app's table, with its schema")
    columns: PublishedColumns = Field(description="the columns to fill; the others stay as they are")
    removed: Literal["delete", "keep"] = Field("delete", description="what becomes of the row of a pair that is gone")


class Exceptions(FieldsWithOn):
    """A table of the app's whose rows are pairs that must not stand."""

    table: Table = Field(description="the table that has a row for each such pair")
    left: str = Field(description="its column that names left entities")
    right: str = Field(description="its column that names right entities")
    on: str = Field(description="the column or property of both sources that holds what these columns name")
    both_ways: bool = Field(False, description="whether a row holds with left and right exchanged, too")


class Matcher(Fields):
    """Two sources and the rule by which the entities of one match those of the other."""

    name: Name = Field(description="the name of the matcher")
    left: Name = Field(description="the source whose entities have lists")
    right: Name = Field(description="the source whose entities are listed")
    # with examples Dagster makes no sample of the type itself, at which it fails
    columns: tuple[Name, Name] = Field(
        examples=[["left_id", "right_id"]], description="the columns of the exposed view that hold the two keys"
    )
    lists: Literal["left", "both"] = Field(
        "left", description="whether right entities keep lists too; within one source both sides always do"
    )
    same: tuple[Name, ...] = Field((), description="properties that must be equal")
    opposite: dict[Name, tuple[str, str]] = Field({}, description="properties that must have one and the other value")
    never_same: str | None = Field(
        None, description="a property, the column of the user or of the key, that differs between the two entities"
    )
    exceptions: Exceptions | None = Field(None, alias="except", description="pairs that must not stand")
    top: int = Field(20, gt=0, description="the length of a list at first; `match_settings` can change it")
    threshold: float = Field(0.5, ge=-1, le=1, description="the least score at first; `match_settings` can change it")
    attribute_weight: float = Field(
        0.0, ge=0, le=1, description="the weight of attributes in the score at first; `match_settings` can change it"
    )

    publish: Publish | None = Field(None, description="the app's table that gets the pairs, in place of the view")
    queue_view: Name | None = Field(None, description="the name of a view of the queue, beside the view of matches")
    queue_key: Name = Field("key", description="the column of that view that holds the key")

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
