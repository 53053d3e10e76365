"""Queues of derived values: computes a value of each picture or text, by a class of the app's team."""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Self

from PIL import Image
from psycopg.types.json import Jsonb

from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import query
from matching_pipeline.errors import HostBusy, JobFailure, PermanentFailure
from matching_pipeline.pictures.decode import decode
from matching_pipeline.pictures.fetch import ImageFetcher
from matching_pipeline.pictures.memory import Memory
from matching_pipeline.queues.client import Job
from matching_pipeline.queues.futures import PATIENCE_SECONDS, Futures
from matching_pipeline.queues.handler import Outcome
from matching_pipeline.sources import declarations
from matching_pipeline.sources.items import NO_URL, forget_outdated, read_items, write_mirror
from matching_pipeline.sources.keys import key_id
from matching_pipeline.sources.reading import SourceRow, text_hash


@dataclass(frozen=True)
class DerivedValue:
    row: SourceRow
    values: Mapping[str, Any]


class DerivedHandler(ABC):
    """A subclass says what is computed; this class reads, retries, writes and erases."""

    lease = timedelta(minutes=2)

    def __init__(
        self,
        declared: declarations.Derived,
        fetcher: ImageFetcher,
        *,
        memory: Memory,
        concurrency: int,
        is_text: bool,
    ) -> None:
        self.queue = declared.name
        self.batch_size = 4 * concurrency
        self._columns = declared.columns.keys()
        self._fetcher = fetcher
        self._memory = memory
        self._is_text = is_text
        self._threads = ThreadPoolExecutor(concurrency, thread_name_prefix="derive")

    @abstractmethod
    def derive(self, row: SourceRow) -> Mapping[str, Any]:
        """The declared columns of the item's row: what JSON can hold, such as texts, numbers and lists.

        Several threads call it at once. `row.content` is the text, or the URL of the picture. Raises PermanentFailure
        if it can never be computed; after another error it is tried again.
        """

    def picture(self, row: SourceRow) -> Image.Image:
        """The picture of the row, upright and in sRGB, scaled down to 1,536 pixels."""
        return decode(self._fetcher.fetch(row.content or ""), memory=self._memory)

    def work(self, connection: Connection, jobs: Sequence[Job]) -> Iterator[list[Outcome]]:
        rows, outcomes = read_items(connection, jobs)
        yield outcomes
        full = {job: row for job, row in rows.items() if row.content or self._is_text}
        yield [Outcome(job, failure=NO_URL) for job in rows if job not in full]
        running: Futures[Job] = Futures()
        for job, row in full.items():
            running.add(self._threads.submit(self._values, row), job)
        for ended in running.ended(PATIENCE_SECONDS):
            yield [self._outcome(job, rows[job], result) for job, result in ended if result is not None]

    def prepare_write(self, connection: Connection) -> None:  # noqa: B027
        """The values of two items need no lock against each other."""

    def write(self, connection: Connection, outcomes: Sequence[Outcome]) -> None:
        current = write_mirror(connection, self.queue, outcomes, is_text=self._is_text)
        values = [
            {
                "source": outcome.job.source,
                "item": str(key_id(row.item_key or "")),
                "input": text_hash(row.content).hex() if self._is_text else row.content,
                **outcome.result.values,
            }
            for outcome, row in current
            # if the app has changed the item since it was read, it is in the queue again
            if row.content == outcome.result.row.content
        ]
        if values:
            connection.execute(query("write_derived"), {"queue": self.queue, "values": Jsonb(values)})

    def forget(self, connection: Connection, job: Job) -> None:
        forget_outdated(connection, self.queue, job, is_text=self._is_text)
        connection.execute(query("forget_derived"), {"queue": self.queue, "source": job.source, "item_key": job.key})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _values(self, row: SourceRow) -> dict[str, Any]:
        values: object = self.derive(row)
        if not isinstance(values, Mapping) or values.keys() != self._columns:
            given = ", ".join(map(str, values)) if isinstance(values, Mapping) else type(values).__name__
            raise PermanentFailure(f"derive gave {given}; the declared columns are {', '.join(self._columns)}")
        try:
            json.dumps(dict(values), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise PermanentFailure(f"derive gave a value that JSON cannot hold: {error}") from error
        return dict(values)

    def _outcome(self, job: Job, row: SourceRow, result: Mapping[str, Any] | JobFailure) -> Outcome:
        if isinstance(result, HostBusy):
            return Outcome(job, must_wait=result)
        if isinstance(result, JobFailure):
            return Outcome(job, failure=result)
        return Outcome(job, DerivedValue(row, result))
