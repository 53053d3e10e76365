"""The declaration of a table of the app. The fields of a class are the attributes in YAML."""

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from matching_pipeline.sources.fields import Columns, Expression, Fields, FieldsWithOn, Name, Table, column_count


class Parent(FieldsWithOn):
    """A row of another table that an entity's row points to."""

    name: str | None = None
    """The word for it in messages."""
    table: Table
    """The table of the parents."""
    key: Columns = "id"
    """The column that names a parent, or a list."""
    on: Columns
    """The column of the source's table that holds this key, or a list."""

    @model_validator(mode="after")
    def _points_to_the_key(self) -> "Parent":
        if column_count(self.on) != column_count(self.key):
            raise ValueError("on and key must have as many columns")
        return self


class Pictures(Fields):
    """An entity's pictures: in rows `i` of a table of their own, or elements `i` of a list in the entity's row."""

    table: Table | None = None
    """The table that has a row for each picture."""
    key: Columns = "id"
    """The column that names a picture, or a list of columns."""
    entity: Columns | None = None
    """The column that holds the key of the picture's entity, or a list of columns."""
    each: Expression | None = None
    """In place of a table, a list over `t` and `p`: text[], or a JSON array of texts or objects."""
    url: Expression | None = None
    """The column that holds the picture's URL, or an expression over `i`, `t` and `p`. With `each`, it is the field
    that holds the URL, or an expression over the JSON element `i`; by default the element itself."""
    when: Expression | None = None
    """The condition over `i`, `t` and `p` under which it counts."""

    @model_validator(mode="after")
    def _has_one_place(self) -> "Pictures":
        if self.each and (self.table or self.entity):
            raise ValueError("pictures have a table or each, not both")
        if not self.each and not (self.table and self.entity and self.url):
            raise ValueError("pictures have table, entity and url, or each")
        return self


class WriteBack(Fields):
    """What the pipeline writes into the app's row."""

    status: str
    """The column that says how far the entity's jobs are."""
    pending: str = "PENDING"
    """Its value while a job waits."""
    processing: str = "PROCESSING"
    """Its value while a worker does a job."""
    completed: str = "COMPLETED"
    """Its value when all jobs are done."""
    failed: str = "FAILED"
    """Its value when a job failed for good."""


class Source(Fields):
    """A table of the app: which of its rows count, and where their pictures, text or vector are."""

    name: Name
    """Your word for such a row, in lower case: jobs, queues and the UI show it."""
    table: Table
    """The table, written as in SQL: `listings`, `shop.listings`, `shop."Listing"`; without a schema it is in
    `public`."""
    key: Columns = "id"
    """The column that names a row, or a list of columns; their types are uuid, smallint, integer, bigint, text
    or varchar, and an index makes them unique."""
    when: Expression | None = None
    """The condition under which a row is an entity, over `t` and `p`."""
    parent: Parent | None = None
    """The row `p` that the row points to."""
    user: str | None = None
    """The column with the user who may see the entity's jobs and matches."""
    properties: dict[Name, Expression] = Field({})
    """What matchers compare: a name and an expression over `t` and `p` each."""
    pictures: Pictures | None = None
    """Several pictures."""
    photo: Expression | None = None
    """An expression over `t` and `p`: the URL of the only picture; null if there is none."""
    base_url: str | None = Field(None, pattern=r"^[a-z][a-z0-9+.-]*://")
    """The address before pictures and photos that are paths: `https://cdn.example.com/photos/`."""
    text: tuple[Expression, ...] | Expression = ()
    """An expression over `t` and `p`, or a list: the parts of a text, which empty lines separate; a row without
    any is an entity without embedding."""
    vector: str | None = None
    """The column with a vector that your app makes: `vector`, `halfvec`, `sparsevec`, `float4[]` or `float8[]`,
    all of one length."""
    write_back: WriteBack | None = None
    """The status that the pipeline writes into the row."""
    triggers: Name | None = None
    """The first part of the names of the triggers."""

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
