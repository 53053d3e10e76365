"""The law of the queue: no input is lost, no entity has two pending jobs, no lease ends twice."""

from uuid import UUID, uuid4

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from matching_pipeline.db.connections import Connection
from matching_pipeline.queues import client
from matching_pipeline.queues.client import Job
from matching_pipeline_tests.fixtures.recording import MINUTE, QUEUE, SOURCE
from matching_pipeline_tests.integration.conftest import claim, make_due

ENTITIES = [str(uuid4()) for _ in range(4)]
entities = st.lists(st.sampled_from(ENTITIES), min_size=1, max_size=4)
pick = st.integers(0, 1000)


class QueueLaw(RuleBasedStateMachine):
    connection: Connection

    @initialize()
    def empty(self) -> None:
        self.connection.execute("truncate matching_pipeline.jobs")
        self.version = dict.fromkeys(ENTITIES, 0)
        """How often each entity's input changed."""
        self.done = dict.fromkeys(ENTITIES, 0)
        """The version that was completed, or given up, for each."""
        self.read: dict[tuple[UUID, int], int] = {}
        """The version that the holder of each lease read."""
        self.leases: list[Job] = []
        """Every lease there ever was, the ended ones too."""
        self.ended: set[tuple[UUID, int]] = set()
        self.over: set[tuple[UUID, int]] = set()
        """The leases whose time is over, which a claim ends."""

    @rule(ids=entities)
    def enqueue(self, ids: list[str]) -> None:
        for entity in set(ids):
            self.version[entity] += 1
        assert client.enqueue(self.connection, QUEUE, SOURCE, ids) == len(set(ids))

    @rule(batch_size=st.integers(1, 3))
    def claim(self, batch_size: int) -> None:
        jobs = claim(self.connection, batch_size)
        self.note_released()
        for job in jobs:
            assert (job.id, job.attempt) not in self.ended
            self.leases.append(job)
            self.read[job.id, job.attempt] = self.version[job.key]

    @rule()
    def time_passes(self) -> None:
        make_due(self.connection)
        self.over |= {(lease.id, lease.attempt) for lease in self.leases}

    @rule(pick=pick)
    def complete(self, pick: int) -> None:
        if job := self.some_lease(pick):
            accepted = client.complete(self.connection, [job]) == {job.id}
            if self.end(job, accepted):
                self.done[job.key] = max(self.done[job.key], self.read[job.id, job.attempt])

    @rule(pick=pick, permanent=st.booleans())
    def fail(self, pick: int, permanent: bool) -> None:
        if job := self.some_lease(pick):
            self.end(job, client.fail(self.connection, job, "broken", permanent=permanent))

    @rule(pick=pick)
    def snooze(self, pick: int) -> None:
        if job := self.some_lease(pick):
            self.end(job, client.snooze(self.connection, [job], MINUTE, "later") == {job.id})

    @rule(pick=pick)
    def renew(self, pick: int) -> None:
        if job := self.some_lease(pick):
            renewed = client.renew(self.connection, [job], MINUTE) == {job.id}
            self.over.discard((job.id, job.attempt))
            assert renewed == ((job.id, job.attempt) not in self.ended)

    @rule()
    def snooze_queue(self) -> None:
        client.snooze_queue(self.connection, QUEUE, MINUTE, "the provider is down")

    @rule()
    def retry(self) -> None:
        client.retry(self.connection, QUEUE)

    @invariant()
    def an_entity_has_one_pending_job(self) -> None:
        pending = [entity for (entity,) in self.rows("pending")]
        assert len(pending) == len(set(pending))

    @invariant()
    def no_version_is_lost(self) -> None:
        """Each unprocessed input has a row that is pending or failed, or that is held by a worker that read it."""
        queued = {entity for (entity,) in self.rows("pending")} | {entity for (entity,) in self.rows("failed")}
        held = {
            lease.key
            for lease in self.leases
            if (lease.id, lease.attempt) not in self.ended
            and self.read[lease.id, lease.attempt] == self.version[lease.key]
        }
        undone = {entity for entity in ENTITIES if self.done[entity] < self.version[entity]}
        assert undone <= queued | held

    def teardown(self) -> None:
        """After any history one worker completes all jobs, and no earlier lease is accepted."""
        make_due(self.connection)
        while jobs := claim(self.connection):
            client.complete(self.connection, jobs)
            # suspects let others go first
            make_due(self.connection)
        assert not self.rows("pending")
        assert not self.rows("processing")
        assert not client.complete(self.connection, self.leases)
        failed = {entity for (entity,) in self.rows("failed")}
        completed = {entity for (entity,) in self.rows("completed")}
        assert {entity for entity, version in self.version.items() if version} == failed | completed

    def some_lease(self, pick: int) -> Job | None:
        return self.leases[pick % len(self.leases)] if self.leases else None

    def end(self, job: Job, accepted: bool) -> bool:
        """A lease is accepted once, and only if it is the row's last."""
        assert accepted == ((job.id, job.attempt) not in self.ended)
        self.ended.add((job.id, job.attempt))
        return accepted

    def note_released(self) -> None:
        """A claim ends the leases that are over, and no other."""
        rows = self.connection.execute("select id, attempts from matching_pipeline.jobs where status = 'processing'")
        held = set(rows.fetchall())
        released = {(lease.id, lease.attempt) for lease in self.leases} - held - self.ended
        assert released <= self.over
        self.ended |= released

    def rows(self, status: str) -> list[tuple[str]]:
        statement = "select key from matching_pipeline.jobs where status = %s"
        return self.connection.execute(statement, (status,)).fetchall()


def test_whatever_happens_in_whatever_order_the_law_holds(connection: Connection) -> None:
    QueueLaw.connection = connection
    run_state_machine_as_test(
        QueueLaw,
        settings=settings(
            max_examples=30,
            stateful_step_count=30,
            deadline=None,
            database=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
