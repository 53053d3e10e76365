"""What is declared in YAML, and how mistakes are named."""

from pathlib import Path
from typing import Any

import pytest

from matching_pipeline import examples
from matching_pipeline.errors import ConfigurationError
from matching_pipeline.settings import Settings
from matching_pipeline.sources.declarations import Declarations
from matching_pipeline.sources.documents import declarations_folder, load
from matching_pipeline.sources.source import Source

POSTING = """
type: matching_pipeline.Source
attributes: {name: posting, table: public.jobs, text: t.title}
"""
FACE = """
type: matching_pipeline.Source
attributes:
  name: face
  table: app."Face"
  parent: {table: profiles, on: userId}
  vector: embedding
"""
PHOTO = """
type: matching_pipeline.Source
attributes: {name: photo, table: public.photos, photo: t.url}
"""
TEXTS = "type: matching_pipeline.TextEmbeddings\nattributes: {name: a, sources: [%s]}"
MATCHES = "type: matching_pipeline.Matches\nattributes: {matchers: [{columns: [a, b], %s}]}"

PUBLISHED = """
type: matching_pipeline.Matches
attributes:
  matchers:
    - {{name: m, left: face, right: face, columns: [a, b], publish: {{table: p, columns: {{left: l, right: r, {}}}}}}}
    - {{name: n, left: face, right: face, columns: [a, b], publish: {{table: p, columns: {{left: l, right: r, {}}}}}}}
"""


def declare(folder: Path, *documents: str, name: str = "defs.yaml") -> Declarations:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n---\n".join(documents))
    return load(folder)


def source(**fields: Any) -> Source:
    return Source.model_validate({"name": "thing", "table": "things", "text": ["t.title"], **fields})


def test_the_examples_declare_the_four_apps() -> None:
    declared = load(examples.FOLDER)
    assert [each.name for each in declared.sources] == ["face", "posting", "project", "product", "studio_project"]
    assert declared.queues == {
        "image_ai": "image",
        "job_embeddings": "text",
        "matches_project": "match",
        "matches_face": "match",
        "generated_images": "generate",
        "publishing": "publish",
    }
    assert declared.queues_of(declared.source("face")) == ["matches_face"]
    assert declared.queues_of(declared.source("product")) == ["image_ai"]


def test_a_name_is_not_that_of_the_queue_of_a_new_model() -> None:
    with pytest.raises(ValueError, match="does not end in _shadow"):
        source(name="thing_shadow")


def test_a_folder_is_read_with_its_subfolders(tmp_path: Path) -> None:
    declare(tmp_path, POSTING, name="jobs/defs.yaml")
    declared = declare(
        tmp_path, FACE, "# nothing", "type: other.Component\nattributes: {x: 1}", name="faces/defs.yaml"
    )
    assert [each.name for each in declared.sources] == ["face", "posting"]


def test_yaml_takes_on_for_true_and_is_understood(tmp_path: Path) -> None:
    (face,) = declare(tmp_path, FACE).sources
    assert face.parent is not None
    assert face.parent.on == "userId"


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("listings", "public.listings"),
        ("shop.listings", "shop.listings"),
        ('"Listing"', 'public."Listing"'),
        ('shop."Listing.Old"', 'shop."Listing.Old"'),
        ('"My.Table"', 'public."My.Table"'),
        ('"a ""b"""."c"', '"a ""b"""."c"'),
    ],
)
def test_a_table_is_written_as_in_sql(written: str, read: str) -> None:
    assert source(table=written).table == read


@pytest.mark.parametrize("table", ["", "my table", "a.b.c", 'a."b', "1a", "a;b"])
def test_what_is_no_table_is_refused(table: str) -> None:
    with pytest.raises(ValueError, match="a table is written as in SQL"):
        source(table=table)


def test_a_text_has_one_part_or_more() -> None:
    assert source(text="t.title").text == ("t.title",)
    assert source(text=["t.title", "t.body"]).text == ("t.title", "t.body")


@pytest.mark.parametrize(
    ("fields", "found"),
    [({"text": []}, "none of them"), ({"photo": "t.url"}, "photo and text"), ({"vector": "v"}, "text and vector")],
)
def test_a_source_has_one_kind_of_content(fields: dict[str, Any], found: str) -> None:
    with pytest.raises(ValueError, match=f"one of pictures, photo, text and vector; thing has {found}"):
        source(**fields)


def test_every_mistake_is_named_with_its_file_and_field(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "defs.yaml").write_text(
        "type: matching_pipeline.Source\nattributes: {name: Article, table: a-b, text: t.x, colour: red}"
    )
    with pytest.raises(ConfigurationError) as caught:
        declare(
            tmp_path,
            "type: matching_pipeline.ImageEmbeddings\nattributes: {name: image_ai, sources: []}",
            "type: matching_pipeline.TextEmbeddings",
            name="b/defs.yaml",
        )
    assert str(caught.value).splitlines() == [
        f"{tmp_path}/a/defs.yaml: Source Article: name: "
        "a name begins with a letter and has up to 28 lower-case letters, digits and _",
        f"{tmp_path}/a/defs.yaml: Source Article: table: "
        'a table is written as in SQL, such as public.listings or shop."Listing"',
        f"{tmp_path}/a/defs.yaml: Source Article: there is no attribute colour, only name, table, key, when, parent, "
        "user, properties, pictures, photo, base_url, text, vector, write_back, triggers",
        f"{tmp_path}/b/defs.yaml: ImageEmbeddings image_ai: sources: it is an empty list: give at least one",
        f"{tmp_path}/b/defs.yaml: TextEmbeddings: name: it must be given",
        f"{tmp_path}/b/defs.yaml: TextEmbeddings: sources: it must be given",
    ]


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ("{name: a, table: b, text: t.c, wen: t.d}", "Source a: there is no attribute wen: is it when?"),
        ("{name: a, table: b, pictures: {table: c, uri: e}}", "pictures: there is no attribute uri: is it url?"),
        ("{name: a, table: b, text: t.c, key: [d]}", "key: it must be the name of a column, or a list of"),
        ("{name: a, table: b, text: t.c, key: 5}", "key: it must be the name of a column, or a list of"),
        ("{name: a, table: b, text: t.c, parent: people}", "parent: it must have attributes"),
        ("{name: a, table: b, photo: t.c, base_url: cdn}", "base_url: it must have the form ^[a-z][a-z0-9+.-]*://"),
        ("{name: a, table: b, text: t.c, properties: [d]}", "properties: it must have names and values"),
    ],
)  # fmt: skip
def test_a_mistake_is_said_in_words(tmp_path: Path, attributes: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        declare(tmp_path, f"type: matching_pipeline.Source\nattributes: {attributes}")
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"{tmp_path}/defs.yaml: Source a: ")
    assert message in line


def test_mistakes_of_several_files_and_between_documents_are_named_at_once(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "defs.yaml").write_text("type: [")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "defs.yaml").write_text(POSTING.replace("t.title", "[]"))
    with pytest.raises(ConfigurationError) as caught:
        declare(tmp_path, TEXTS % "posting, note", "type: matching_pipeline.Sauce", name="c/defs.yaml")
    said = str(caught.value)
    for message in (
        "a/defs.yaml: while parsing",
        "b/defs.yaml: Source posting: ",
        "there is no matching_pipeline.Sauce",
    ):
        assert message in said
    assert "a: there is no source note" in said
    assert "there is no source posting" not in said


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("type: [", "defs.yaml: while parsing"),
        ("- type: matching_pipeline.Source", "defs.yaml: a declaration has the fields type and attributes"),
        (
            "type: matching_pipeline.Sauce",
            "type: there is no matching_pipeline.Sauce, only matching_pipeline.Source, ",
        ),
        ("type: Source", "type: write matching_pipeline.Source in place of Source"),
        ("type: matching_pipeline.Source\nattributes: [name]", "defs.yaml: Source: attributes: "),
    ],
)
def test_what_is_no_declaration_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        declare(tmp_path, text)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("documents", "message"),
    [
        ([POSTING, POSTING], "two sources have the name posting"),
        ([TEXTS % "article"], "a: there is no source"),
        ([FACE, TEXTS % "face"], "face has no text"),
        ([PHOTO, TEXTS % "photo"], "has no text"),
        ([POSTING, "type: matching_pipeline.ImageEmbeddings\nattributes: {name: a, sources: [posting]}"],
         "a: the source posting has no pictures or photo"),
        ([POSTING, "type: matching_pipeline.GeneratedImages\nattributes: {source: posting}"], "posting has no photo"),
        ([FACE, POSTING, MATCHES % "name: m, left: face, right: posting"],
         "matcher m: vectors of face and texts of posting cannot be compared"),
        ([FACE, MATCHES % "name: m, left: face, right: face, never_same: owner"],
         "matcher m: owner is not a property, user column or key of the source face"),
        ([FACE, MATCHES % "name: m, left: face, right: face, except: {table: b, left: c, right: d, on: owner}"],
         "matcher m: owner is not a property, user column or key of the source face"),
        ([POSTING, POSTING.replace("name: posting", "name: other"), "type: matching_pipeline.TextEmbeddings\n"
          "attributes: {name: a, sources: [posting, other], queue_view: q}"], "`queue_view` is for an asset of one"),
        ([FACE, PUBLISHED.format("", "")], "its rows in public.p are those of the matcher m: declare other columns"),
        ([FACE, PUBLISHED.format("", "matcher: kind")], "in public.p are those of the matcher m"),
        ([FACE, PUBLISHED.format("matcher: kind", "matcher: name")], "the same column `matcher` in both"),
        ([FACE, MATCHES % "name: m, left: face, right: face, except: {table: p, left: l, right: r, on: userId},"
          "publish: {table: public.p, columns: {left: l, right: r}}"], "public.p is its table of exceptions"),
        ([FACE, MATCHES % "name: face, left: face, right: face, opposite: {g: [a, b]}"], "face has no property g"),
    ],
)  # fmt: skip
def test_declarations_that_do_not_fit_together_are_named(tmp_path: Path, documents: list[str], message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        declare(tmp_path, *documents)
    assert message in str(caught.value)
    assert "Value error" not in str(caught.value)


def test_matchers_share_a_table_with_one_column_for_their_names(tmp_path: Path) -> None:
    declared = declare(tmp_path, FACE, PUBLISHED.format("matcher: kind", "matcher: kind"))
    assert [matcher.name for matcher in declared.matchers] == ["m", "n"]


def test_declarations_are_in_defs_or_where_the_settings_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DEFINITIONS_DIR")
    url = "postgresql://db.example.com/app"
    # without a database the embedded one serves, and the examples
    assert declarations_folder(Settings(database_url=None)) == examples.FOLDER
    with pytest.raises(
        ConfigurationError, match=r"DEFINITIONS_DIR: there is no folder defs .*matching-pipeline init"
    ):
        declarations_folder(Settings(database_url=url))
    (tmp_path / "defs").mkdir()
    assert declarations_folder(Settings(database_url=url)) == Path("defs")
    assert declarations_folder(Settings(database_url=url, definitions_dir=tmp_path)) == tmp_path
    with pytest.raises(ConfigurationError, match="there is no folder elsewhere"):
        declarations_folder(Settings(definitions_dir=Path("elsewhere")))
