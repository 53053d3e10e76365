"""A source of texts whose declaration each test chooses."""

from typing import Any

from matching_pipeline.db.connections import Connection
from matching_pipeline.handlers.texts import TextHandler
from matching_pipeline.queues.progress import Summary
from matching_pipeline.queues.worker import QueueWorker
from matching_pipeline.sources.attach import attach
from matching_pipeline.sources.declarations import Declarations, TextEmbeddings
from matching_pipeline.sources.source import Source
from matching_pipeline_tests.fixtures.app import App
from matching_pipeline_tests.fixtures.postings import LetterEmbedder

QUEUE = "note_embeddings"


def declare(*, queue: str = QUEUE, **changes: Any) -> Declarations:
    """Notes: a source of texts."""
    source = Source(**{"name": "note", "table": "public.notes", "text": ("t.title",), **changes})
    return Declarations.of([source, TextEmbeddings(name=queue, sources=("note",))])


class Notes(App):
    """A table of the app whose rows have texts, numbers as texts and an author."""

    def __init__(self, connection: Connection, database_url: str, key: str = "id bigint primary key") -> None:
        super().__init__(connection)
        self.database_url = database_url
        self.run("create table authors (id integer primary key, name text)")
        self.run(f"create table notes ({key}, title text, amount text, author integer)")

    def attach(self, **changes: Any) -> None:
        attach(self.connection, declare(**changes))
        self.work()

    def add(self, *titles: str) -> None:
        self.run(
            "insert into notes (id, title) select (select coalesce(max(id), 0) from notes) + number, title "
            "from unnest(%s::text[]) with ordinality as added (title, number)",
            list(titles),
        )

    def work(self, embedder: LetterEmbedder | None = None, queue: str = QUEUE) -> Summary:
        self.run("update matching_pipeline.jobs set run_at = now() where status = 'pending'")
        with TextHandler(embedder or LetterEmbedder(), queue) as handler:
            return QueueWorker(self.database_url, handler).run()

    def embedded(self) -> dict[str, bytes]:
        """The hash of each note's embedded text."""
        return dict(
            self.connection.execute(
                "select key, input_hash from matching_pipeline.items join matching_pipeline.embeddings "
                "on item = id and embeddings.source = items.source where items.source = 'note'"
            ).fetchall()
        )

    def unfinished(self) -> list[tuple[Any, ...]]:
        """Kind, counted attempts and reason of the jobs that are neither completed nor failed."""
        return self.connection.execute(
            "select distinct kind, attempts - snoozes, error_message from matching_pipeline.jobs "
            "where status in ('pending', 'processing') order by kind"
        ).fetchall()

    def failed(self) -> dict[str, str]:
        return dict(
            self.connection.execute(
                "select key, error_message from matching_pipeline.jobs where status = 'failed'"
            ).fetchall()
        )

    def expected(self, text: str = "title") -> dict[str, bytes]:
        return dict(self.connection.execute(f"select id::text, sha256(({text})::bytea) from notes").fetchall())
