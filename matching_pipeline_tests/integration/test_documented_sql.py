"""The SQL of the documents runs on the example apps with sample rows."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from psycopg import sql

from matching_pipeline.db.connections import Connection
from matching_pipeline.sample_data.insert import insert_sample_data
from matching_pipeline_tests.conftest import NewTemplate

ROOT = Path(__file__).resolve().parents[2]
PLACEHOLDERS = {
    r"'ID'": "(select id from jobs limit 1)",
    r"'KEY'": "(select id::text from products limit 1)",
    r"\[0\.1, …\]": "[1, 1]",
    r"project_id = …": "project_id = (select id from projects limit 1)",
    r"(?<=\()project_id": "(select id from projects limit 1)",
    r"(?<='single', )project_id": "(select id from projects limit 1)",
    r"(?<=\()id, attempts": "gen_random_uuid(), 1",
    r"explain_match\('similar', '1', '2'\)": "explain_match('project', (select id::text from listings limit 1), "
    "(select id::text from products limit 1))",
    r"url, width, height, media_type, bytes, model, source_url, source_hash": "'file:///a.png', 1, 1, 'image/png', "
    "1, 'a model', 'file:///b.png', '\\x00'",
}


def blocks() -> Iterator[tuple[str, str]]:
    # those of derived-values.md run in test_derived_values.py
    others = [document for document in sorted((ROOT / "docs").glob("*.md")) if document.stem != "derived-values"]
    for document in (ROOT / "README.md", ROOT / "ARCHITECTURE.md", *others):
        for number, block in enumerate(re.findall(r"```sql\n(.*?)```", document.read_text(), re.DOTALL), 1):
            yield f"{document.name} {number}", block


@pytest.fixture(scope="session")
def template(new_template: NewTemplate) -> str:
    return new_template("documented", lambda connection, _: insert_sample_data(connection))


@pytest.mark.parametrize("block", [block for _, block in blocks()], ids=[name for name, _ in blocks()])
def test_a_block_of_a_document_runs(connection: Connection, block: str) -> None:
    for placeholder, value in PLACEHOLDERS.items():
        block = re.sub(placeholder, value.replace("\\", r"\\"), block)
    connection.execute(sql.SQL(block))
