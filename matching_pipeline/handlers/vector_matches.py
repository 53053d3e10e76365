"""Queues of matchers of vectors: the handler mirrors the entities and maintains their lists."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import partial

import psycopg

from matching_pipeline.db.connections import Connection
from matching_pipeline.db.transactions import GAVE_WAY, give_way
from matching_pipeline.errors import PermanentFailure, SourceUnreadable
from matching_pipeline.matches.locks import ListsLock
from matching_pipeline.matches.match_table import Figures
from matching_pipeline.matches.vector_matcher import VectorMatcher
from matching_pipeline.queues import client
from matching_pipeline.queues.client import Job
from matching_pipeline.queues.worker import Outcome
from matching_pipeline.sources import expansion, mirror
from matching_pipeline.sources.expansion import Expansion
from matching_pipeline.sources.keys import key_id
from matching_pipeline.sources.reading import SourceRow, fetch, read
from matching_pipeline.sources.vectors import mirror_vectors, vector_failures

CROWD = 300
"""If a block has this many waiting entities, a rebuild costs less than single updates."""
OF_THE_SERVER = ("08", "53", "57", "58")
"""Classes of SQLSTATE: the connection, resources, an operator's intervention, the system."""
CROWD_CLAIM = 20_000
"""The most jobs that are claimed at once to find blocks to rebuild."""
MIRRORED_AT_ONCE = 500
"""Rows that one transaction mirrors before a rebuild."""


class VectorMatchHandler:
    """In one transaction it updates the mirror and the lists, and completes the jobs. It holds the lists' lock.

    Batches are small: meanwhile an erasure by the app can only leave a job.
    No error text quotes a row: an erasure does not reach every copy of it.
    """

    batch_size = 100
    # the handler may rebuild crowded blocks before it writes a batch, and renews no lease meanwhile
    lease = timedelta(minutes=5)

    def __init__(self, queue: str, matcher: VectorMatcher) -> None:
        self.queue = queue
        self._matcher = matcher
        self._figures = Figures()
        """Figures of rebuilt blocks; the next `write` returns them."""
        self._takes_lists = True
        """Whether the last yielded outcomes change lists."""
        self._released = 0
        """Jobs of the last crowd that batches must still do."""

    def work(self, connection: Connection, jobs: Sequence[Job]) -> Iterator[list[Outcome]]:
        with _quoting_no_row():
            if self._has_crowd(connection, len(jobs)):
                self._released = self._match_crowd(connection)
                yield []
            self._released -= len(jobs)
            outcomes = self._outcomes(connection, jobs)
            # an erasure must not wait for a rebuild, which holds the lists for long
            self._takes_lists = False
            yield [outcome for outcome in outcomes if not _is_comparable(outcome)]
            self._takes_lists = True
            yield [outcome for outcome in outcomes if _is_comparable(outcome)]

    def prepare_write(self, connection: Connection) -> None:
        if self._takes_lists:
            ListsLock(connection, self._matcher.name).take()

    def write(self, connection: Connection, outcomes: Sequence[Outcome]) -> dict[str, int]:
        figures = Figures()
        with _quoting_no_row():
            expanded = [outcome for outcome in outcomes if isinstance(outcome.result, Expansion)]
            expansion.write(connection, self.queue, expanded)
            entities = [outcome for outcome in outcomes if not isinstance(outcome.result, Expansion)]
            if entities:
                figures += self._write_entities(connection, entities)
        figures += self._figures
        self._figures = Figures()
        return vars(figures)

    def forget(self, connection: Connection, job: Job) -> None:
        """Erases an entity whose vector cannot be compared, and its pairs.

        After any other error both stay until a retry.
        """
        if job.kind != "entity":
            return
        with _quoting_no_row():
            try:
                with connection.transaction():
                    rows = fetch(connection, job.source, "entity", [job.key])
            except (PermanentFailure, SourceUnreadable):
                # its row cannot be read: its pairs stay
                return
            if vector_failures(connection, job.source, rows):
                mirror.erase(connection, self.queue, job.source, "entity", [job.key], of_status=())

    def _write_entities(self, connection: Connection, outcomes: Sequence[Outcome]) -> Figures:
        keys = [outcome.job.key for outcome in outcomes]
        known = [outcome.result for outcome in outcomes if outcome.result is not None]
        source = self._matcher.source
        mirrored = mirror_vectors(connection, self.queue, source, keys, known)
        if self._takes_lists:
            return self._matcher.update(connection, {key_id(key) for key in keys})
        if mirrored:
            # These rows were missing when read and exist again.
            client.enqueue(connection, self.queue, source, mirrored)
        return Figures()

    def _outcomes(self, connection: Connection, jobs: Sequence[Job]) -> list[Outcome]:
        outcomes = list(expansion.expand(connection, [job for job in jobs if job.kind != "entity"]))
        entities = [job for job in jobs if job.kind == "entity"]
        if not entities:
            return outcomes
        source = self._matcher.source
        try:
            reading = read(connection, source, "entity", [job.key for job in entities])
        except SourceUnreadable as error:
            return outcomes + [Outcome(job, must_wait=error) for job in entities]
        rows = {row.entity_key: row for row in reading.rows}
        failures = reading.failures | vector_failures(connection, source, reading.rows)
        return outcomes + [Outcome(job, rows.get(job.key), failures.get(job.key)) for job in entities]

    def _has_crowd(self, connection: Connection, claimed: int) -> bool:
        if claimed < self.batch_size or self._released > 0:
            return False
        return client.queue_state(connection, self.queue).waiting >= CROWD

    def _match_crowd(self, connection: Connection) -> int:
        """Rebuilds the blocks of which many entities wait. Returns the number of jobs that are left to batches."""
        crowd = client.claim(connection, self.queue, CROWD_CLAIM, self.lease)
        done = 0
        try:
            outcomes = self._outcomes(connection, [job for job in crowd if job.kind == "entity"])
            for same, some in self._by_block(filter(_is_comparable, outcomes)).items():
                if len(some) >= CROWD:
                    self._mirror(connection, [outcome.result for outcome in some])
                    with ListsLock(connection, self._matcher.name).alone():
                        self._figures += self._matcher.rebuild_block(connection, dict(same))
                    done += len(client.complete(connection, [outcome.job for outcome in some]))
        except (*GAVE_WAY, PermanentFailure, SourceUnreadable):
            # Batches do these jobs later and find the failing one.
            pass
        finally:
            if not connection.closed:
                client.snooze(connection, crowd, timedelta(0), None)
        return len(crowd) - done

    def _mirror(self, connection: Connection, rows: Sequence[SourceRow]) -> None:
        for begin in range(0, len(rows), MIRRORED_AT_ONCE):
            some = rows[begin : begin + MIRRORED_AT_ONCE]
            keys = [row.entity_key for row in some]
            give_way(connection, partial(mirror_vectors, connection, self.queue, self._matcher.source, keys, some))

    def _by_block(self, outcomes: Iterable[Outcome]) -> dict[tuple[tuple[str, str], ...], list[Outcome]]:
        """The outcomes of entities that can match, by what both sides of a pair have in common."""
        blocks: dict[tuple[tuple[str, str], ...], list[Outcome]] = defaultdict(list)
        for outcome in outcomes:
            if block := self._matcher.block_of(outcome.result.properties):
                blocks[tuple((name, block[name]) for name in self._matcher.same)].append(outcome)
        return blocks


def _is_comparable(outcome: Outcome) -> bool:
    """Whether the row is an entity that can be listed. An entity that is gone can only be removed from lists."""
    row = outcome.result
    return isinstance(row, SourceRow) and row.applies and outcome.failure is None


@contextmanager
def _quoting_no_row() -> Iterator[None]:
    """A message of Postgres may quote a key or a vector: only its SQLSTATE is passed on.

    A message about the server itself, such as a full disk, quotes none.
    """
    try:
        yield
    except psycopg.Error as error:
        if error.sqlstate is None or error.sqlstate[:2] in OF_THE_SERVER:
            raise
        raise type(error)(f"SQLSTATE {error.sqlstate}") from None
