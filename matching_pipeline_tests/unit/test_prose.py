"""The check of plain English: each rule with sentences that break it or do not."""

from pathlib import Path

import pytest

from tools.prose import findings, main

LONG = "The worker " + "very " * 27 + "slowly works."


def found(source: str, path: str = "document.md") -> list[tuple[int, str]]:
    return [(finding.line, finding.reason) for finding in findings(path, source)]


@pytest.mark.parametrize(
    ("reason", "sentence"),
    [
        ("free relative as a subject", "Who waits is next."),
        ("free relative as a subject", "Whoever writes lists must see all of them."),
        ("free relative as a subject", "What no row names can be deleted."),
        ("free relative as a subject", "What it cost is a fact of the picture."),
        ("free relative as a subject", "Claims all rows; what is missing is added."),
        ("free relative as a subject", "Equal inputs are asked once: who asks says so in a table."),
        ("free relative as a subject", "It has its own session, so that what was paid is known."),
        ("not plain", "The worker waits, and nobody works."),
        ("not plain", "All lists are computed anew."),
        ("not plain", "The trigger owes work to the queue."),
        ("not plain", "The work is owed to the model."),
        ("not plain", "It names the face whom the user matches."),
        ("not plain", "The table holds what stands."),
        ("not plain", "The run lingers for a minute."),
        ("not plain", "The model is no more."),
        ("not plain", "The rows are no more."),
        ("not plain", "The job is charged."),
        ("not plain", "The job is not charged."),
        ("read twice", "Of equal scores the lower one is first."),
        ("read twice", "The server is started, else it is asked again."),
        ("read twice", "Else the worker waits."),
        ("read twice", "The model is no shadow."),
        ("read twice", "The update is none of the app's."),
        ("read twice", "It finds the pairs that must not match and the pairs must not stand."),
        ("read twice", "The tables stand in a schema."),
        ("retired word", "The lane has a model."),
        ("retired word", "A run drains the queue."),
        ("retired word", "The ledger has a row."),
        ("retired word", "A deferral takes five seconds."),
        ("retired word", "The worker defers the job."),
        ("more than 30 words", LONG),
    ],
)
def test_a_sentence_breaks_a_rule(reason: str, sentence: str) -> None:
    assert found(sentence) == [(1, reason)]


@pytest.mark.parametrize(
    "sentence",
    [
        "What is missing?",
        "The worker that waits is next.",
        "A user who asks is told.",
        "The status says what is missing and who is asked.",
        "What the provider says of one picture.",
        "What a project keeps: its best products.",
        "No one waits, and new lists are computed.",
        "The list is no more than a page.",
        "The score is no lower, of course, and there is no other.",
        "A product stands on the floor.",
        "Of course there is none of them.",
        "The provider charges for the picture.",
        "The planet and the airplane have drainage.",
        "A deferred constraint is checked at the commit.",
        "The menu has five items.",
        "The file `lane.py` and the call ``drain(item)`` keep their names, see https://example.com/lane.",
        "The [table](docs/lane.md) has a row.",
        LONG.replace("very ", "", 1),
        LONG.replace("very ", "`very` ", 1),
        "These settings, " + "first, second, third, fourth, " * 8 + "and fifth, have no unit.",
        "One sentence " + "has " * 20 + "an end. Another sentence " + "has " * 20 + "one too.",
    ],
)
def test_a_sentence_breaks_no_rule(sentence: str) -> None:
    assert found(sentence) == []


def test_docstrings_comments_and_messages_of_python_are_read() -> None:
    source = '''"""A module.

The lane of the module.
"""

SIDE = 3
"""The lane of a constant."""


def work(lane, item):
    """Reads the lane."""
    # a comment that speaks
    # of the lane
    drain(lane)  # the lane once more
    raise ValueError(f"the lane {lane} is closed")
'''
    assert found(source, "module.py") == [(line, "retired word") for line in (3, 7, 11, 12, 14, 15)]


def test_names_and_sql_in_python_are_not_read() -> None:
    source = """
execute("select lane from items where nobody owes")
execute("update job_queue set lane = %s")
names = ["lane", "drain", "no lane"]  # noqa: the lane
match = re.compile(r"the lane of \\w+")
"""
    assert found(source, "module.py") == []


def test_comments_of_sql_are_read() -> None:
    source = "-- name: lane_of_nobody\nselect lane -- the lane\nfrom nobody;\n\n-- it is computed\n-- anew\n"
    assert found(source, "query.sql") == [(2, "retired word"), (5, "not plain")]


def test_code_and_tables_of_documents_are_not_read() -> None:
    source = "# The lane\n\n```\nthe lane\n```\n\n| the lane |\n\n- a lane\n- no queue\n  and no\n  lane\n"
    assert found(source) == [(1, "retired word"), (9, "retired word"), (10, "retired word")]


def test_a_finding_fails_with_its_place_and_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = tmp_path / "document.md"
    document.write_text("A worker waits.\n")
    assert main(tmp_path) == 0
    document.write_text(document.read_text() + "\nThe lane is full.\n")
    assert main(tmp_path) == 1
    assert capsys.readouterr().out == "document.md:3: retired word: The lane is full.\n"
