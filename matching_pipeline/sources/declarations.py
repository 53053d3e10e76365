"""What a team declares: sources, assets and matchers. Each class has the fields of its YAML."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)

from matching_pipeline.errors import ConfigurationError

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,27}$")]
"""Of a source, an asset or a matcher: a part of the names of triggers and queues."""
_TABLE = re.compile(r'(?:(?:"(?:[^"]|"")+"|[^\W\d][\w$]*)\.)?(?:"(?:[^"]|"")+"|[^\W\d][\w$]*)')


def _with_schema(table: str) -> str:
    if not _TABLE.fullmatch(table):
        raise ValueError('a table is written as in SQL, such as public.listings or shop."Listing"')
    return table if "." in re.sub(r'"[^"]*"', "", table) else f"public.{table}"


Table = Annotated[str, AfterValidator(_with_schema)]
"""A table of the app, quoted as in SQL; one without a schema is in `public`."""
Expression = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
"""SQL over the row `t` of the source's table and the row `p` of its parent."""
Column = Annotated[str, StringConstraints(min_length=1)]
Columns = Column | Annotated[tuple[Column, ...], Field(min_length=2)]
"""The columns of a key: one, or a list of several."""
VIEW_COLUMNS = frozenset({"id", "kind", "rank", "rank_for_a", "rank_for_b", "similarity", "model", "computed_at"})
"""What the exposed view of matches shows beside the keys."""
PUBLISHING = "publishing"
"""The queue of what the app's tables still lack."""
TYPE_PREFIX = "matching_pipeline."
WORKER = f"{TYPE_PREFIX}Worker"
"""A component without a declaration."""


def _count(columns: Columns) -> int:
    return 1 if isinstance(columns, str) else len(columns)


class _Declaration(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _admit_true(schema: dict[str, Any]) -> None:
    """YAML 1.1 reads the key `on` as true, and the schema must allow that key."""
    schema["required"].remove("on")
    schema["additionalProperties"] = True


class _WithOn(_Declaration):
    """A declaration with the field `on`."""

    model_config = ConfigDict(extra="forbid", frozen=True, json_schema_extra=_admit_true)

    @model_validator(mode="before")
    @classmethod
    def _read_on(cls, values: Any) -> Any:
        if isinstance(values, dict) and True in values:
            return {**{name: value for name, value in values.items() if name is not True}, "on": values[True]}
        return values


class Parent(_WithOn):
    """A row of another table that an entity's row points to."""

    name: str | None = Field(None, description="what messages call a parent; the table's name by default")
    table: Table = Field(description="the table of the parents")
    key: Columns = Field("id", description="the column that names a parent, or a list of columns")
    on: Columns = Field(description="the column of the source's table that holds the parent's key, or a list")

    @model_validator(mode="after")
    def _points_to_the_key(self) -> "Parent":
        if _count(self.on) != _count(self.key):
            raise ValueError("on and key must have as many columns")
        return self


class Pictures(_Declaration):
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


class WriteBack(_Declaration):
    """What the pipeline writes into the app's row."""

    status: str = Field(description="the column that says how far the entity's jobs are")
    pending: str = Field("PENDING", description="its value while a job waits")
    processing: str = Field("PROCESSING", description="its value while a worker does a job")
    completed: str = Field("COMPLETED", description="its value when all jobs are done")
    failed: str = Field("FAILED", description="its value when a job failed for good")


class Source(_Declaration):
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
        if self.pictures and self.pictures.entity and _count(self.pictures.entity) != _count(self.key):
            raise ValueError("pictures.entity and key must have as many columns")
        return self

    @property
    def modality(self) -> Literal["image", "text", "vector"]:
        return "vector" if self.vector else "text" if self.text else "image"

    @field_validator("text", mode="before")
    @classmethod
    def _one_part(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value


class ImageEmbeddings(_Declaration):
    """An asset: the embeddings and attributes of the pictures of some sources."""

    name: Name = Field(description="the name of the asset and of its queue")
    sources: tuple[Name, ...] = Field(min_length=1, description="sources with pictures")
    expose: Name | None = Field(None, description="the schema in which the app finds a view of the results")


class TextEmbeddings(_Declaration):
    """An asset: the embeddings of the texts of some sources."""

    name: Name = Field(description="the name of the asset and of its queue")
    sources: tuple[Name, ...] = Field(min_length=1, description="sources with texts")
    key_column: Name = Field("key", description="the column of the exposed view that holds an entity's key")
    expose: Name | None = Field(None, description="the schema in which the app finds a view of the results")
    queue_view: Name | None = Field(None, description="the name of a view of the queue, beside it")
    search: Name | None = Field(None, description="the name of a function beside it that finds similar entities")


class PublishedColumns(_Declaration):
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


class Publish(_Declaration):
    """A table of the app's own that gets a matcher's pairs, in the transaction that finds them."""

    table: Table = Field(description="the app's table, with its schema")
    columns: PublishedColumns = Field(description="the columns to fill; the others stay as they are")
    removed: Literal["delete", "keep"] = Field("delete", description="what becomes of the row of a pair that is gone")


class Exceptions(_WithOn):
    """A table of the app's whose rows are pairs that must not stand."""

    table: Table = Field(description="the table that has a row for each such pair")
    left: str = Field(description="its column that names left entities")
    right: str = Field(description="its column that names right entities")
    on: str = Field(description="the column or property of both sources that holds what these columns name")
    both_ways: bool = Field(False, description="whether a row holds with left and right exchanged, too")


class Matcher(_Declaration):
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


class Matches(_Declaration):
    """The asset of all matches."""

    name: Name = Field("matches", description="the name of the asset")
    matchers: tuple[Matcher, ...] = Field(min_length=1, description="the matchers")
    expose: Name | None = Field(None, description="the schema in which the app finds the view `matches`")


class GeneratedImages(_Declaration):
    """An asset: pictures that a provider makes from the photos of a source."""

    name: Name = Field("generated_images", description="the name of the asset and of its queue")
    source: Name = Field(description="the source with the photos")
    expose: Name | None = Field(None, description="the schema in which the app finds views and functions")


Declared = Source | ImageEmbeddings | TextEmbeddings | Matches | GeneratedImages
KINDS: dict[str, type[Declared]] = {
    kind.__name__: kind for kind in (Source, ImageEmbeddings, TextEmbeddings, Matches, GeneratedImages)
}


class Declarations(_Declaration):
    """All that one code location declares. Raises ValueError where the parts do not fit together."""

    sources: tuple[Source, ...] = ()
    images: tuple[ImageEmbeddings, ...] = ()
    texts: tuple[TextEmbeddings, ...] = ()
    matches: tuple[Matches, ...] = ()
    generated: tuple[GeneratedImages, ...] = ()

    @classmethod
    def of(cls, declared: Iterable[Declared]) -> "Declarations":
        parts: dict[type[Declared], list[Any]] = {kind: [] for kind in KINDS.values()}
        for each in declared:
            parts[type(each)].append(each)
        try:
            return cls(
                sources=tuple(parts[Source]),
                images=tuple(parts[ImageEmbeddings]),
                texts=tuple(parts[TextEmbeddings]),
                matches=tuple(parts[Matches]),
                generated=tuple(parts[GeneratedImages]),
            )
        except ValidationError as error:
            messages = [each["msg"].removeprefix("Value error, ") for each in error.errors()]
            raise ConfigurationError("\n".join(messages)) from None

    @property
    def queues(self) -> dict[str, str]:
        """The work of each queue by its name, in the order in which work flows through them."""
        works = {each.name: "image" for each in self.images} | {each.name: "text" for each in self.texts}
        works |= {each.queue: "match" for each in self.matchers}
        works |= {each.name: "generate" for each in self.generated}
        writes = any(each.publish for each in self.matchers) or any(each.write_back for each in self.sources)
        return works | ({PUBLISHING: "publish"} if writes else {})

    @property
    def matchers(self) -> list[Matcher]:
        return [matcher for each in self.matches for matcher in each.matchers]

    def source(self, name: str) -> Source:
        return next(source for source in self.sources if source.name == name)

    def queues_of(self, source: Source) -> list[str]:
        """The queues whose workers read the source's changed rows."""
        queues = [each.name for each in self.images if source.name in each.sources]
        queues += [each.name for each in self.texts if source.name in each.sources]
        if source.vector:
            queues += [each.queue for each in self.matchers if source.name in (each.left, each.right)]
        return queues

    @model_validator(mode="after")
    def _fit_together(self) -> "Declarations":
        problems = list(self._problems())
        if problems:
            raise ValueError("\n".join(problems))
        return self

    def _problems(self) -> Iterator[str]:
        content = {source.name: source for source in self.sources}
        names = [source.name for source in self.sources]
        yield from (f"two sources have the name {name}" for name, times in Counter(names).items() if times > 1)
        queues = [each.name for each in self.images] + [each.name for each in self.texts]
        queues += [each.name for each in self.generated] + [matcher.queue for matcher in self.matchers]
        queues += [PUBLISHING]
        yield from (f"two queues have the name {name}" for name, times in Counter(queues).items() if times > 1)
        for text in self.texts:
            for name in ("queue_view", "search"):
                if getattr(text, name) and len(text.sources) > 1:
                    yield f"{text.name}: `{name}` is for an asset of one source"
                if getattr(text, name) and not text.expose:
                    yield f"{text.name}: `{name}` needs `expose`, which names its schema"
        for matcher in self.matchers:
            if taken := sorted({*matcher.columns} & VIEW_COLUMNS):
                yield f"matcher {matcher.name}: the view of matches has a column {taken[0]} already"
            if matcher.columns[0] == matcher.columns[1]:
                yield f"matcher {matcher.name}: its two columns have one name"
            sides = [content[name] for name in dict.fromkeys((matcher.left, matcher.right)) if name in content]
            for source in sides:
                yield from (f"matcher {matcher.name}: {problem}" for problem in _lacking(matcher, source))
            if len({source.modality for source in sides}) > 1:
                what = " and ".join(f"{source.modality}s of {source.name}" for source in sides)
                yield f"matcher {matcher.name}: {what} cannot be compared"
        yield from self._problems_of_publications()
        for asset, name, needed in self._uses():
            if name not in content:
                yield f"{asset}: there is no source {name}"
            elif needed and not any(getattr(content[name], field) for field in needed):
                yield f"{asset}: the source {name} has no {' or '.join(needed)}"

    def _problems_of_publications(self) -> Iterator[str]:
        published: dict[tuple[str, ...], tuple[str, str | None]] = {}
        for matcher in self.matchers:
            if matcher.publish is None:
                continue
            columns = matcher.publish.columns
            twice = [name for name, times in Counter(columns.names).items() if times > 1]
            yield from (f"matcher {matcher.name}: publish: two columns have one name, {name}" for name in twice)
            table = matcher.publish.table
            if matcher.exceptions and matcher.exceptions.table == table:
                yield f"matcher {matcher.name}: publish: {table} is its table of exceptions: publish into another"
            other, column = published.setdefault(
                (table, columns.left, columns.right), (matcher.name, columns.matcher)
            )
            # only one column of names, filled by all of them, tells their rows apart
            if other != matcher.name and not (column and column == columns.matcher):
                yield (
                    f"matcher {matcher.name}: publish: its rows in {table} are those of the matcher {other}: "
                    "declare other columns, or the same column `matcher` in both"
                )

    def _uses(self) -> Iterator[tuple[str, str, tuple[str, ...]]]:
        for image in self.images:
            yield from ((image.name, name, ("pictures", "photo")) for name in image.sources)
        for text in self.texts:
            yield from ((text.name, name, ("text",)) for name in text.sources)
        for each in self.generated:
            yield each.name, each.source, ("photo",)
        for matcher in self.matchers:
            yield from ((f"matcher {matcher.name}", name, ()) for name in (matcher.left, matcher.right))


def _lacking(matcher: Matcher, source: Source) -> Iterator[str]:
    """What the matcher compares and the source does not have."""
    for name in (*matcher.same, *matcher.opposite):
        if name not in source.properties:
            yield f"the source {source.name} has no property {name}"
    for column in (matcher.never_same, matcher.exceptions.on if matcher.exceptions else None):
        if column not in (None, source.user, source.key, *source.properties):
            yield f"{column} is no property, user column or key of the source {source.name}"
