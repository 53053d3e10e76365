"""What a team declares of one of the app's tables. Each class has the fields of its YAML."""

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from matching_pipeline.sources.fields import Columns, Expression, Fields, FieldsWithOn, Name, Table, column_count


class Parent(FieldsWithOn):
    """A row of another table that an entity's row points to."""

    name: str | None = Field(None, description="what messages call a parent; the table's name by default")
    table: Table = Field(description="the table of the parents")
    key: Columns = Field("id", description="the column that names a parent, or a list of columns")
    on: Columns = Field(description="the column of the source's table that holds the parent's key, or a list")

    @model_validator(mode="after")
    def _points_to_the_key(self) -> "Parent":
        if column_count(self.on) != column_count(self.key):
            raise ValueError("on and key must have as many columns")
        return self


class Pictures(Fields):
    """An entity's pictures: in rows `i` of a table of their own, or elements `i` of a list in the entity's row."""

    table: Table | None = Field(None, description="the table that has a row for each picture")
    key: Columns = Field("id", description="the column that names a picture, or a list of columns")
    entity: Columns | None = Field(
        None, description="the column that holds the key of the picture's entity, or a list of columns"
    )
    each: Expression | None = Field(
        None, description="in place of a table, a list over `t` and `p`: text[], or a JSON array of texts or objects"
    )
    url: Expression | None = Field(
        None,
        description="the column that holds the picture's URL, or an expression over `i`, `t` and `p`; of `each` the "
        "field that holds it, or an expression over the JSON element `i`; by default the element itself",
    )
    when: Expression | None = Field(None, description="the condition over `i`, `t` and `p` under which it counts")

    @model_validator(mode="after")
    def _has_one_place(self) -> "Pictures":
        if self.each and (self.table or self.entity):
            raise ValueError("pictures have a table or each, not both")
        if not self.each and not (self.table and self.entity and self.url):
            raise ValueError("pictures have table, entity and url, or each")
        return self


class WriteBack(Fields):
    """What the pipeline writes into the app's row."""

    status: str = Field(description="the column that says how far the entity's jobs are")
    pending: str = Field("PENDING", description="its value while a job waits")
    processing: str = Field("PROCESSING", description="its value while a worker does a job")
    completed: str = Field("COMPLETED", description="its value when all jobs are done")
    failed: str = Field("FAILED", description="its value when a job failed for good")


class Source(Fields):
    """A table of the app: which of its rows count, and where their pictures, text or vector are."""

    name: Name = Field(description="the name of the source")
    table: Table = Field(description="the app's table, with its schema")
    key: Columns = Field("id", description="the column that names a row, or a list of columns")
    when: Expression | None = Field(None, description="the condition under which a row is an entity of the source")
    parent: Parent | None = Field(None, description="the row that the expressions call `p`")
    user: str | None = Field(
        None, description="the column that holds the user who may see the entity's jobs and matches"
    )
    properties: dict[Name, Expression] = Field({}, description="what matchers compare, by name")
    pictures: Pictures | None = Field(None, description="the entity's pictures in rows of another table")
    photo: Expression | None = Field(None, description="the URL of the entity's only picture")
    base_url: str | None = Field(
        None,
        pattern=r"^[a-z][a-z0-9+.-]*://",
        description="the address before the paths of pictures and photos that are no URLs",
    )
    text: tuple[Expression, ...] | Expression = Field((), description="the expressions whose values form the text")
    vector: str | None = Field(None, description="the column that holds a vector that the app made")
    write_back: WriteBack | None = Field(None, description="what the pipeline writes into the row")
    triggers: Name | None = Field(None, description="the first part of the names of the source's triggers")

    @model_validator(mode="after")
    def _has_one_content(self) -> "Source":
        given = [name for name in ("pictures", "photo", "text", "vector") if getattr(self, name)]
        if len(given) != 1:
            found = " and ".join(given) or "none of them"
            raise ValueError(f"a source has one of pictures, photo, text and vector; {self.name} has {found}")
        if self.base_url and not (self.pictures or self.photo):
            raise ValueError("base_url is for pictures and photo")
        if self.pictures and self.pictures.entity and column_count(self.pictures.entity) != column_count(self.key):
            raise ValueError("pictures.entity and key must have as many columns")
        return self

    @property
    def modality(self) -> Literal["image", "text", "vector"]:
        return "vector" if self.vector else "text" if self.text else "image"

    @field_validator("text", mode="before")
    @classmethod
    def _one_part(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value
