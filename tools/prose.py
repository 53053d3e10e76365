"""Finds sentences that break the rules of plain English: `python -m tools.prose`.

It reads docstrings, comments and messages of Python files, comments of SQL files, and Markdown documents.
"""

import ast
import io
import re
import sys
import tokenize
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
FOLDERS: Final = ("matching_pipeline", "matching_pipeline_tests", "benchmarks", "tools", "sql", "docs")
QUOTING: Final = ("tools/prose.py", "matching_pipeline_tests/unit/test_prose.py")
"""These files quote what the rules forbid."""
MOST_WORDS: Final = 30

Block = tuple[int, str]
"""The number of the first line, and the text with its line breaks."""

# A free relative is a clause that begins with «who» or «what»; as a subject it is followed by a verb of its own.
CLAUSE: Final = r"(?:^|[;:(–—] ?|\b(?:that|because|while|if|unless|until|once|so|but|than|where|when|and) )"
SUBORDINATION: Final = (
    r"(?:that|which|who|what|if|where|when|how|why|as|whether|than|because|while|until|once|and|or)"
)
RELATIVE_VERB: Final = (
    r"(?:is|are|was|were|has|have|had|does|do|did|can|may|must|will|would|should|cannot|(?!its\b|this\b|his\b)[a-z]{2,}s"
    r"|[a-z]+ed|gave|left|came|became|made|took|wrote|(?:it|they|we|you) \w+)\b"
)
MAIN_VERB: Final = (
    r"(?:is|was|has|does|can|could|may|might|must|will|would|should|cannot|needs|need not|stays|stops|takes|makes"
    r"|gives|gets|goes|comes|leaves|loses|keeps|waits|ends|counts|means|passes|finds|hears|asks|says)\b"
)
COMPARED: Final = r"(?:longer|more|less|fewer|better|worse|larger|smaller|higher|lower|earlier|later|other)"
REASONS: Final = {
    reason: re.compile(pattern, re.IGNORECASE)
    for reason, pattern in {
        "free relative as a subject": rf"{CLAUSE}(?:who|what)(?:ever)?\b[^:;.?]*? {RELATIVE_VERB}"
        rf"(?:(?! {SUBORDINATION}\b)[^:;.?])* {MAIN_VERB}(?!.*\?$)",
        "not plain": r"\b(?:nobody|anew|owe[sd]|whom|what stands|linger(?:s|ed|ing)?)\b"
        r"|\b(?:is|are) no more\b(?! than)|\b(?:is|are)(?: not| never| also)? charged\b",
        "read twice": r"(?-i:^Of (?!course\b))|(?:^|[.;:,] )else\b|(?<!there )\b(?:is|are|was|were) none of\b"
        rf"|(?<!there )\b(?:is|are|was|were) no (?!{COMPARED}\b)"
        r"|\b(?:pairs?|rows?|triggers?|tables?|columns?|lists?|files?|pages?|they|all) (?:must not |may )?stands?\b",
        "retired word": r"\b(?:lanes?|drain(?:s|ed|ing|er)?|ledgers?|defer(?:s|red|ring|rals?)?)\b(?! constraint)",
    }.items()
}
CODE: Final = re.compile(r"``[^`]*``|`[^`]*`|\]\([^)]*\)|\b\w+://\S+|<[^<>\s][^<>]*>")
SENTENCE: Final = re.compile(r"[^\s.!?].*?(?:[.!?]+[)\]*\"'»”]*(?=\s)|\s*\Z)", re.DOTALL)
WORD: Final = re.compile(r"[^\W\d_][\w'’-]*")
NAMES: Final = re.compile(r"(?:[^\s,;:.]+(?: [^\s,;:.]+){0,2}, ){3,}")
LIST_MARK: Final = re.compile(r"^\s*(?:[-*•]|\d+\.|#+|>)\s")
PRAGMA: Final = re.compile(r"(?:type|noqa|fmt|pragma|ruff|name):")
NO_PROSE: Final = re.compile(
    r"\s*(?:select|insert into|update|delete from|with \w+ as|create|alter|drop|grant|revoke|truncate|set \w+ =)\b"
    r"|.*(?:%s|%\(|::| = |\(\?|\.\*|\\[a-z])",
    re.DOTALL,
)


@dataclass(frozen=True)
class Finding:
    path: str
    line: int
    reason: str
    sentence: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.reason}: {self.sentence}"


def python_blocks(source: str) -> Iterator[Block]:
    strings = Strings()
    strings.visit(ast.parse(source))
    yield from sorted([*joined(python_comments(source)), *strings.blocks])


def python_comments(source: str) -> Iterator[tuple[int, int, str]]:
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield *token.start, token.string.lstrip("#:! ")


class Strings(ast.NodeVisitor):
    """Collects docstrings, and those other strings that look like a message."""

    def __init__(self) -> None:
        self.blocks: list[Block] = []

    def visit_Expr(self, node: ast.Expr) -> None:
        if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            self.blocks.append((node.lineno, node.value.value))
        else:
            self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, str):
            self._message(node.lineno, node.value)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        constants = (value.value if isinstance(value, ast.Constant) else "…" for value in node.values)
        self._message(node.lineno, "".join(map(str, constants)))

    def _message(self, line: int, text: str) -> None:
        if len(WORD.findall(text)) >= 3 and " " in text and not NO_PROSE.match(text):
            self.blocks.append((line, text))


def sql_blocks(source: str) -> Iterator[Block]:
    found = ((row, re.search(r"(?:^|\s)--\s(.*)", line)) for row, line in enumerate(source.splitlines(), 1))
    return joined((row, match.start(), match[1]) for row, match in found if match)


def joined(comments: Iterable[tuple[int, int, str]]) -> Iterator[Block]:
    """Takes row, column and text of each comment, and joins those right below each other."""
    first, column, lines = 0, 0, list[str]()
    for row, start, text in comments:
        if PRAGMA.match(text):
            continue
        if lines and (row, start) == (first + len(lines), column):
            lines.append(text)
            continue
        if lines:
            yield first, "\n".join(lines)
        first, column, lines = row, start, [text]
    if lines:
        yield first, "\n".join(lines)


def markdown_blocks(source: str) -> Iterator[Block]:
    """The document without code and tables."""
    yield 1, re.sub(r"^```.*?^```|^\|[^\n]*", lambda match: "\n" * match[0].count("\n"), source, flags=re.M | re.S)


READERS: Final[dict[str, Callable[[str], Iterator[Block]]]] = {
    ".py": python_blocks,
    ".sql": sql_blocks,
    ".md": markdown_blocks,
}


def paragraphs(block: Block) -> Iterator[Block]:
    first, lines = block[0], list[str]()
    for number, line in enumerate([*block[1].split("\n"), ""], block[0]):
        if lines and (not line.strip() or LIST_MARK.match(line)):
            yield first, "\n".join(lines)
            lines = []
        if line.strip():
            first = first if lines else number
            lines.append(LIST_MARK.sub("", line, count=1))


def sentences(paragraph: Block) -> Iterator[tuple[int, str, str]]:
    """The line of each sentence, the sentence, and the sentence with its code masked."""
    first, text = paragraph
    masked = CODE.sub(lambda match: re.sub(r"\S", "□", match[0]), text)
    for match in SENTENCE.finditer(masked):
        line = first + text.count("\n", 0, match.start())
        yield line, " ".join(text[slice(*match.span())].split()), " ".join(match[0].split())


def reasons(masked: str) -> Iterator[str]:
    """What is wrong with a sentence, its code being masked."""
    yield from (reason for reason, pattern in REASONS.items() if pattern.search(masked))
    if len(WORD.findall(NAMES.sub("", masked))) > MOST_WORDS:
        yield f"more than {MOST_WORDS} words"


def findings(path: str, source: str) -> Iterator[Finding]:
    for block in READERS[Path(path).suffix](source):
        for paragraph in paragraphs(block):
            for line, sentence, masked in sentences(paragraph):
                for reason in reasons(masked):
                    yield Finding(path, line, reason, sentence)


def read(root: Path) -> list[Finding]:
    files = [*root.glob("*.md"), *(file for folder in FOLDERS for file in (root / folder).rglob("*.*"))]
    paths = sorted(str(file.relative_to(root)) for file in files if file.suffix in READERS)
    return [finding for path in paths if path not in QUOTING for finding in findings(path, (root / path).read_text())]


def main(root: Path = ROOT) -> int:
    found = read(root)
    for finding in found:
        print(finding)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
