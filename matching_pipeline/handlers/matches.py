"""Queues of matchers: the handler maintains the lists. Entities with vectors of the app's it mirrors, too."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import partial
from uuid import UUID

import psycopg

from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import query
from matching_pipeline.db.transactions import GAVE_WAY, give_way
from matching_pipeline.errors import PermanentFailure, SourceUnreadable
from matching_pipeline.matches.kernel.columns import as_ids
from matching_pipeline.matches.locks import ListsLock
from matching_pipeline.matches.matching import Matching
from matching_pipeline.matches.rebuilds import Part
from matching_pipeline.matches.rule import Block
from matching_pipeline.matches.writing import Figures
from matching_pipeline.queues import client
from matching_pipeline.queues.client import Job
from matching_pipeline.queues.handler import Outcome
from matching_pipeline.sources import expansion, mirror
from matching_pipeline.sources.expansion import Expansion
from matching_pipeline.sources.keys import key_id
from matching_pipeline.sources.reading import SourceRow, read_all, read_each
from matching_pipeline.sources.vectors import mirror_vectors, vector_failures

EXCEPTED = "excepted"
"""The kind of a job whose key is a value that a row of `except` names."""
VECTORS_AT_ONCE = 100
"""Fewer, as the app's erasure of an entity that is being mirrored can only leave a job."""
CROWD = 300
"""With so many jobs waiting, the worker looks whether whole blocks wait."""
SMALL_CROWD = 10
CROWD_SHARE = 1 / 20
"""If so many entities of a block wait, and this share of all of them, a rebuild costs less than single updates."""
SERVER_FAULTS = ("08", "53", "57", "58")
"""Classes of SQLSTATE: the connection, resources, an operator's intervention, the system."""
CROWD_CLAIM = 20_000
"""The most jobs that are claimed at once to find blocks to rebuild."""
MIRRORED_AT_ONCE = 500
"""Rows that one transaction mirrors before a rebuild."""


class MatchHandler:
    """Updates the mirror and the lists and completes the jobs in one transaction, under the lock of the lists.

    A list depends on every entity of both sources, so a writer must see what the last writer committed.
    No error text quotes a row: an erasure does not reach every copy of it.
    """

    batch_size = 500
    # the handler may rebuild crowded blocks before it writes a batch, and renews no lease meanwhile
    lease = timedelta(minutes=5)

    def __init__(self, queue: str, matching: Matching, mirrored: Collection[str] = ()) -> None:
        """`mirrored` are the matcher's sources with vectors. Workers of other queues mirror those with pictures or
        texts."""
        self.queue = queue
        if mirrored:
            self.batch_size = min(self.batch_size, VECTORS_AT_ONCE)
        self._matching = matching
        self._mirrored = mirrored
        self._figures = Figures()
        """Figures of rebuilt blocks; the next `write` returns them."""
        self._takes_lists = True
        """Whether the last yielded outcomes change lists."""
        self._released = 0
        """Jobs of the last crowd that batches must still do."""
        self._written: set[UUID] = set()
        """Entities whose pairs were written since the last look at the exceptions."""

    def work(self, connection: Connection, jobs: Sequence[Job]) -> Iterator[list[Outcome]]:
        if not self._mirrored:
            yield [Outcome(job) for job in jobs]
            self._look_again(connection)
            return
        with _quoting_no_row():
            if self._has_crowd(connection, len(jobs)):
                self._released = self._match_crowd(connection)
                yield []
            self._released -= len(jobs)
            outcomes = self._outcomes(connection, jobs)
            # an erasure must not wait for a rebuild, which holds the lists for long
            self._takes_lists = False
            yield [outcome for outcome in outcomes if not _changes_lists(outcome)]
            self._takes_lists = True
            yield [outcome for outcome in outcomes if _changes_lists(outcome)]
            self._look_again(connection)

    def prepare_write(self, connection: Connection) -> None:
        if self._takes_lists:
            ListsLock(connection, self._matching.name).take()

    def write(self, connection: Connection, outcomes: Sequence[Outcome]) -> dict[str, int]:
        figures = Figures()
        with _quoting_no_row():
            expanded = [outcome for outcome in outcomes if isinstance(outcome.result, Expansion)]
            expansion.write(connection, self.queue, expanded)
            for job in (outcome.job for outcome in outcomes if outcome.job.kind == EXCEPTED):
                connection.execute(query("enqueue_excepted"), {"matcher": self._matching.name, "value": job.key})
                # the key may name a person
                connection.execute(query("forget_job"), {"id": job.id})
            entities = [
                outcome
                for outcome in outcomes
                if outcome.job.kind != EXCEPTED and not isinstance(outcome.result, Expansion)
            ]
            if entities:
                figures += self._write_entities(connection, entities)
        figures += self._figures
        self._figures = Figures()
        return vars(figures)

    def forget(self, connection: Connection, job: Job) -> None:
        """Erases an entity whose vector cannot be compared, and its pairs.

        After any other error both stay until a retry.
        """
        if job.kind != "entity" or job.source not in self._mirrored:
            return
        with _quoting_no_row():
            try:
                with connection.transaction():
                    rows = read_all(connection, job.source, "entity", [job.key])
            except (PermanentFailure, SourceUnreadable):
                # the row cannot be read, so its pairs stay
                return
            if vector_failures(connection, job.source, rows):
                mirror.erase(connection, self.queue, job.source, "entity", [job.key], of_status=())

    def _write_entities(self, connection: Connection, outcomes: Sequence[Outcome]) -> Figures:
        changed = {}
        for source, group in _by_source(outcomes).items():
            keys = [outcome.job.key for outcome in group]
            changed[source] = {key_id(key) for key in keys}
            if source in self._mirrored:
                known = [outcome.result for outcome in group if outcome.result is not None]
                mirrored = mirror_vectors(connection, self.queue, source, keys, known)
                if mirrored and not self._takes_lists:
                    # these rows were missing when read and exist again
                    client.enqueue(connection, self.queue, source, mirrored)
            else:
                mirror.forget_jobs_of_erased(connection, [outcome.job for outcome in group])
        if not self._takes_lists:
            return Figures()
        figures = self._matching.update(connection, changed)
        self._written.update(*changed.values())
        return figures

    def _look_again(self, connection: Connection) -> None:
        """The next batch does it if rows are locked or the app's table cannot be read."""
        with _quoting_no_row(), suppress(*GAVE_WAY, SourceUnreadable):
            self._matching.look_again(connection, as_ids(self._written))
            self._written.clear()

    def _outcomes(self, connection: Connection, jobs: Sequence[Job]) -> list[Outcome]:
        outcomes = [Outcome(job) for job in jobs if job.kind == EXCEPTED]
        outcomes += expansion.expand(connection, [job for job in jobs if job.kind not in ("entity", EXCEPTED)])
        entities = [Outcome(job) for job in jobs if job.kind == "entity"]
        for source, group in _by_source(entities).items():
            try:
                reading = read_each(connection, source, "entity", [outcome.job.key for outcome in group])
            except SourceUnreadable as error:
                outcomes += [Outcome(outcome.job, must_wait=error) for outcome in group]
                continue
            rows = {row.entity_key: row for row in reading.rows}
            failures = reading.failures | vector_failures(connection, source, reading.rows)
            for job in (outcome.job for outcome in group):
                outcomes.append(Outcome(job, rows.get(job.key), failures.get(job.key)))
        return outcomes

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
            sizes = self._block_sizes(connection)
            for same, some in self._by_block(filter(_is_comparable, outcomes)).items():
                if len(some) >= max(SMALL_CROWD, CROWD_SHARE * sizes[frozenset(same)]):
                    self._mirror(connection, some)
                    with ListsLock(connection, self._matching.name).alone():
                        self._figures += self._matching.rebuild_part(connection, Part(dict(same)))
                    done += len(client.complete(connection, [outcome.job for outcome in some]))
        except (*GAVE_WAY, PermanentFailure, SourceUnreadable):
            # Batches do these jobs later and find the failing one.
            pass
        finally:
            if not connection.closed:
                client.snooze(connection, crowd, timedelta(0), None)
        return len(crowd) - done

    def _block_sizes(self, connection: Connection) -> Counter[frozenset[tuple[str, str]]]:
        """How many entities are mirrored, by the values that both sides of a pair have in common."""
        rows = connection.execute(query("block_sizes"), {"matcher": self._matching.name})
        return Counter({frozenset(same.items()): size for same, size in rows})

    def _mirror(self, connection: Connection, outcomes: Sequence[Outcome]) -> None:
        for source, group in _by_source(outcomes).items():
            for begin in range(0, len(group), MIRRORED_AT_ONCE):
                rows = [outcome.result for outcome in group[begin : begin + MIRRORED_AT_ONCE]]
                keys = [row.entity_key for row in rows]
                give_way(connection, partial(mirror_vectors, connection, self.queue, source, keys, rows))

    def _by_block(self, outcomes: Iterable[Outcome]) -> dict[Block, list[Outcome]]:
        """The outcomes of entities that can match, by the values that both sides of a pair have in common."""
        blocks: dict[Block, list[Outcome]] = defaultdict(list)
        rule = self._matching.rule
        for outcome in outcomes:
            block = rule.block_of(outcome.result.properties)
            if block is not None:
                blocks[block[: len(rule.same)]].append(outcome)
        return blocks


def _by_source(outcomes: Iterable[Outcome]) -> dict[str, list[Outcome]]:
    groups: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        groups[outcome.job.source].append(outcome)
    return groups


def _changes_lists(outcome: Outcome) -> bool:
    return outcome.job.kind == EXCEPTED or _is_comparable(outcome)


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
        if error.sqlstate is None or error.sqlstate[:2] in SERVER_FAULTS:
            raise
        raise type(error)(f"SQLSTATE {error.sqlstate}") from None
