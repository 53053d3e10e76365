"""What a team declares: sources, and the assets made of them. The fields of a class are its attributes in YAML."""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar, get_args

from pydantic import Field, ValidationError, model_validator

from matching_pipeline.errors import ConfigurationError
from matching_pipeline.sources.fields import Code, Fields, Name
from matching_pipeline.sources.matcher import Matcher
from matching_pipeline.sources.source import Source

VIEW_COLUMNS = frozenset({"id", "kind", "rank", "rank_for_a", "rank_for_b", "similarity", "model", "computed_at"})
"""What the exposed view of matches shows beside the keys."""
DERIVED_COLUMNS = frozenset({"source", "key", "item", "input", "derived_at"})
"""What the table and the view of derived values have beside the declared columns."""
PUBLISHING = "publishing"
"""The queue of what the app's tables still lack."""
TYPE_PREFIX = "matching_pipeline."
WORKER = f"{TYPE_PREFIX}Worker"
"""A component without a declaration."""


class Asset(Fields):
    owners: tuple[str, ...] = ()
    """The owners that the UI names: `team:catalog`, or an address of mail."""


class ImageEmbeddings(Asset):
    """An asset: the embeddings and attributes of the pictures of some sources."""

    work: ClassVar = "image"
    needs: ClassVar = ("pictures", "photo")
    name: Name
    """The name of the asset, its queue and its view."""
    sources: tuple[Name, ...] = Field(min_length=1)
    """Sources with `pictures` or `photo`."""
    expose: Name | None = None
    """The schema that gets the view and a function `enqueue_SOURCE_images` for each source."""


class TextEmbeddings(Asset):
    """An asset: the embeddings of the texts of some sources."""

    work: ClassVar = "text"
    needs: ClassVar = ("text",)
    name: Name
    """The name of the asset, its queue and its view."""
    sources: tuple[Name, ...] = Field(min_length=1)
    """Sources with `text`."""
    key_column: Name = "key"
    """The column of the view that holds an entity's key."""
    expose: Name | None = None
    """The schema that gets the view."""
    queue_view: Name | None = None
    """The name of a view of the queue, of one source."""
    search: Name | None = None
    """The name of a function that finds similar entities, of one source."""


class Derived(Asset):
    """An asset: a value that a class of yours computes of each picture or text of some sources."""

    work: ClassVar = "derive"
    needs: ClassVar = ("pictures", "photo", "text")
    name: Name
    """The name of the asset, its queue and its view; its table is `derived_` and the name."""
    sources: tuple[Name, ...] = Field(min_length=1)
    """Sources with `pictures` or `photo`, or sources with `text`."""
    handler: Code
    """The class that computes it, such as `our_package.colours.Colours`; `.colours.Colours` is in the folder of
    the declarations."""
    columns: dict[Name, str] = Field(min_length=1)
    """The columns of the value, each with its type."""
    expose: Name | None = None
    """The schema that gets the view."""


class Matches(Asset):
    """The asset of all matches."""

    name: Name = "matches"
    """The name of the asset and its view."""
    matchers: tuple[Matcher, ...] = Field(min_length=1)
    """The matchers."""
    expose: Name | None = None
    """The schema that gets the view."""


class GeneratedImages(Asset):
    """An asset: pictures that a provider makes from the photos of a source."""

    name: Name = "generated_images"
    """The name of the asset, its queue and its view."""
    source: Name
    """The source with the `photo`."""
    expose: Name | None = None
    """The schema that gets views and functions."""


OfItems = ImageEmbeddings | TextEmbeddings | Derived
"""An asset that has a result for each picture or text of its sources."""
Declaration = Source | OfItems | Matches | GeneratedImages
KINDS: dict[str, type[Declaration]] = {kind.__name__: kind for kind in get_args(Declaration)}


class Declarations(Fields):
    """All that one code location declares. Raises ValueError if the parts do not fit together."""

    sources: tuple[Source, ...] = ()
    images: tuple[ImageEmbeddings, ...] = ()
    texts: tuple[TextEmbeddings, ...] = ()
    derived: tuple[Derived, ...] = ()
    matches: tuple[Matches, ...] = ()
    generated: tuple[GeneratedImages, ...] = ()

    @classmethod
    def of(cls, declared: Iterable[Declaration]) -> "Declarations":
        parts: dict[type[Declaration], list[Any]] = {kind: [] for kind in KINDS.values()}
        for each in declared:
            parts[type(each)].append(each)
        try:
            return cls(
                sources=tuple(parts[Source]),
                images=tuple(parts[ImageEmbeddings]),
                texts=tuple(parts[TextEmbeddings]),
                derived=tuple(parts[Derived]),
                matches=tuple(parts[Matches]),
                generated=tuple(parts[GeneratedImages]),
            )
        except ValidationError as error:
            messages = [each["msg"].removeprefix("Value error, ") for each in error.errors()]
            raise ConfigurationError("\n".join(messages)) from None

    @property
    def queues(self) -> dict[str, str]:
        """The work of each queue by its name, in the order in which work flows through them."""
        works = {each.name: each.work for each in self.of_items}
        works |= {each.queue: "match" for each in self.matchers}
        works |= {each.name: "generate" for each in self.generated}
        writes = any(each.publish for each in self.matchers) or any(each.write_back for each in self.sources)
        return works | ({PUBLISHING: "publish"} if writes else {})

    @property
    def of_items(self) -> list[OfItems]:
        return [*self.images, *self.texts, *self.derived]

    @property
    def matchers(self) -> list[Matcher]:
        return [matcher for each in self.matches for matcher in each.matchers]

    def source(self, name: str) -> Source:
        return next(source for source in self.sources if source.name == name)

    def queues_of(self, source: Source) -> list[str]:
        """The queues whose workers read the source's changed rows."""
        queues = [each.name for each in self.of_items if source.name in each.sources]
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
        queues = [each.name for each in (*self.of_items, *self.generated)]
        queues += [matcher.queue for matcher in self.matchers]
        queues += [PUBLISHING]
        yield from (f"two queues have the name {name}" for name, times in Counter(queues).items() if times > 1)
        for text in self.texts:
            for name in ("queue_view", "search"):
                if getattr(text, name) and len(text.sources) > 1:
                    yield f"{text.name}: `{name}` is for an asset of one source"
                if getattr(text, name) and not text.expose:
                    yield f"{text.name}: `{name}` needs `expose`, which names its schema"
        for each in self.derived:
            if len({content[name].modality for name in each.sources if name in content}) > 1:
                yield f"{each.name}: it is of pictures or of texts: declare an asset of each"
            if taken := sorted(each.columns.keys() & DERIVED_COLUMNS):
                yield f"{each.name}: columns: its view has a column {taken[0]} already"
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
        for asset in self.of_items:
            yield from ((asset.name, name, asset.needs) for name in asset.sources)
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
            yield (
                f"{column} is not a property, user column or key of the source {source.name}: for a column declare "
                f"`properties: {{{column}: t.{column}}}`"
            )
