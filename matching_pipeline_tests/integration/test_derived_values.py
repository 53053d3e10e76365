"""The worked example of docs/derived-values.md, as a reader would put it in place."""

import re
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path

import pytest

from matching_pipeline.components.folder import definitions_in
from matching_pipeline.db.connections import Connection, connect
from matching_pipeline.db.files import ROOT
from matching_pipeline.errors import ConfigurationError
from matching_pipeline.handlers.registry import process_due
from matching_pipeline.queues.progress import Summary
from matching_pipeline.settings import Settings
from matching_pipeline.sources.attach import attach
from matching_pipeline.sources.declarations import Declarations
from matching_pipeline.sources.documents import load
from matching_pipeline_tests.fixtures.app import App
from matching_pipeline_tests.fixtures.pictures import picture

DOCUMENT = (Path(__file__).resolve().parents[2] / "docs/derived-values.md").read_text()
PRODUCT = """
type: matching_pipeline.Source
attributes:
  name: product
  table: public.products
  pictures: {table: public.product_images, key: id, entity: product_id, url: src}
---
"""
POSTING = """
type: matching_pipeline.Source
attributes: {name: posting, table: public.jobs, text: [t.title, t.description]}
---
"""
WORDS = """
type: matching_pipeline.Derived
attributes:
  name: words
  sources: [posting]
  handler: .counting.Words
  columns: {count: integer, words: "text[]"}
  expose: public
"""
COUNTING = """
from matching_pipeline.handlers.derived import DerivedHandler

class Words(DerivedHandler):
    def derive(self, row):
        words = row.content.split()
        wrong = {"other": {"number": 1}, "none": None, "set": {"count": 1, "words": {1}}}
        return wrong.get(words[0], {"count": len(words), "words": words})
"""
Work = Callable[[], Summary]


def block(language: str, number: int = 0) -> str:
    blocks: list[str] = re.findall(rf"```{language}\n(.*?)```", DOCUMENT, re.DOTALL)
    return blocks[number]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "defs/app").mkdir(parents=True)
    (tmp_path / "defs/colours.py").write_text(block("python"))
    (tmp_path / "defs/app/defs.yaml").write_text(PRODUCT + block("yaml"))
    return tmp_path / "defs"


@pytest.fixture
def work(connection: Connection, database_url: str, folder: Path) -> Work:
    declarations = load(folder)
    attach(connection, declarations)
    return lambda: process_due(Settings(), database_url, declarations, "colours")


def url(colour: str) -> str:
    return f"data:image/png;base64,{b64encode(picture(colour)).decode()}"


def test_a_class_and_a_declaration_keep_a_value_of_each_picture(connection: Connection, work: Work) -> None:
    app = App(connection)
    product = app.product()
    red, teal = app.product_image(product, url("red")), app.product_image(product, url("teal"))
    work()
    assert dict(connection.execute(block("sql").encode()).fetchall()) == {str(red): "#ff0000", str(teal): "#008080"}
    app.run("update product_images set src = %s where id = %s", url("blue"), red)
    app.run("delete from product_images where id = %s", teal)
    work()
    assert app.run("select colour from colours") == ["#0000ff"]
    connection.execute(block("sql", 1).encode())
    assert work().counts["completed"] == 1
    assert app.run("select colour from colours") == ["#0000ff"]
    app.run("update product_images set src = 'data:,nothing' where id = %s", red)
    assert work().counts["failed"] == 1
    assert app.run("select colour from colours") == []
    assert app.run("select failed_for_good from matching_pipeline.queue_coverage('colours')") == [1]
    app.run("delete from products")
    work()
    assert app.run("select 1 from matching_pipeline.jobs where queue = 'colours' and status <> 'completed'") == []


def test_texts_have_values_too_and_wrong_ones_fail_the_job(
    connection: Connection, database_url: str, tmp_path: Path
) -> None:
    (tmp_path / "counting.py").write_text(COUNTING)
    (tmp_path / "defs.yaml").write_text(POSTING + WORDS)
    declarations = load(tmp_path)
    attach(connection, declarations)
    app = App(connection)
    app.run(
        "insert into jobs (title, description) values ('Baker', 'bread'), ('other', ''), ('none', ''), ('set', '')"
    )
    process_due(Settings(), database_url, declarations, "words")
    assert connection.execute(b"select count, words from words").fetchall() == [(2, ["Baker", "bread"])]
    assert app.run("select error_message from matching_pipeline.jobs where status = 'failed' order by 1") == [
        "derive gave NoneType; the declared columns are count, words",
        "derive gave a value that JSON cannot hold: Object of type set is not JSON serializable",
        "derive gave number; the declared columns are count, words",
    ]
    app.run("update jobs set title = 'Baker', description = 'rolls and buns'")
    process_due(Settings(), database_url, declarations, "words")
    assert app.run("select count from words") == [4, 4, 4, 4]
    assert app.run("select matching_pipeline.enqueue_missing('words')") == [0]


def test_a_column_is_added_and_another_type_is_refused(connection: Connection, work: Work, folder: Path) -> None:
    file = folder / "app/defs.yaml"
    file.write_text(file.read_text().replace("colour: text", "colour: text, code: char(3), area: integer"))
    attach(connection, load(folder))
    attach(connection, load(folder))
    lengths = "select character_maximum_length from information_schema.columns where column_name = 'code'"
    assert set(App(connection).run(lengths)) == {3}
    assert App(connection).run("select area from colours") == []
    file.write_text(file.read_text().replace("area: integer", "area: text"))
    with pytest.raises(ConfigurationError, match="columns: area has the type integer"):
        attach(connection, load(folder))


@pytest.mark.parametrize(
    ("handler", "message"),
    [
        (".shades.Shades", "No module named"),
        (".colours.Shades", "no attribute 'Shades'"),
        ("pathlib.Path", "not a DerivedHandler"),
    ],
)
def test_a_class_that_does_not_fit_is_refused_by_name(
    connection: Connection, database_url: str, folder: Path, handler: str, message: str
) -> None:
    file = folder / "app/defs.yaml"
    file.write_text(file.read_text().replace(".colours.Colours", handler))
    with pytest.raises(ConfigurationError, match=f"colours: handler: {handler}.*{message}"):
        attach_and_process(connection, database_url, load(folder))


def attach_and_process(connection: Connection, database_url: str, declarations: Declarations) -> None:
    attach(connection, declarations)
    process_due(Settings(), database_url, declarations, "colours")


def test_the_asset_has_its_checks_and_its_sensor(folder: Path) -> None:
    repository = definitions_in(folder).get_repository_def()
    assert "colours_sensor" in {sensor.name for sensor in repository.sensor_defs}
    checks = {key.name for key in repository.asset_graph.asset_check_keys if key.asset_key.path == ["colours"]}
    assert checks == {"every_entity_is_accounted_for", "no_failed_jobs"}


def test_the_pipelines_own_role_writes_the_values(
    connection: Connection, database_url: str, folder: Path, work: Work
) -> None:
    app = App(connection)
    app.product_image(app.product(), url("red"))
    connection.execute((ROOT / "sql/role.sql").read_bytes())
    as_role = f"{database_url}{'&' if '?' in database_url else '?'}options=-crole%3Dmatching_pipeline"
    with connect(as_role) as own:
        assert own.execute("select current_user").fetchone() == ("matching_pipeline",)
    process_due(Settings(), as_role, load(folder), "colours")
    assert app.run("select colour from colours") == ["#ff0000"]
    connection.execute("drop owned by matching_pipeline; drop role matching_pipeline")
