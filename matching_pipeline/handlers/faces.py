"""The handler of the queue `faces`: it maintains the lists of faces."""

from collections.abc import Iterator, Sequence
from datetime import timedelta

from psycopg.rows import class_row

from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import query
from matching_pipeline.db.transactions import GAVE_WAY
from matching_pipeline.matches import faces
from matching_pipeline.matches.locks import ListsLock
from matching_pipeline.matches.match_table import Figures
from matching_pipeline.queues import client
from matching_pipeline.queues.client import Job
from matching_pipeline.queues.worker import Outcome

CROWD = 300
"""From this number of waiting faces on, a rebuild of their school costs less than maintenance face by face."""


class FaceHandler:
    """It writes in the transaction that completes the jobs, and takes the lists for that time.

    A list depends on every face of a block. The app's deletes wait for the transaction, so batches are small.
    """

    queue = faces.QUEUE
    batch_size = 100
    # the handler may rebuild crowded schools before it writes a batch, and renews no lease meanwhile
    lease = timedelta(minutes=5)

    def __init__(self) -> None:
        self._figures = Figures()
        """Of schools that were rebuilt; the next write reports them."""

    def work(self, connection: Connection, jobs: Sequence[Job]) -> Iterator[list[Outcome]]:
        for (school,) in connection.execute(query("crowded_schools"), {"least": CROWD}).fetchall():
            self._figures += self._match_crowd(connection, school)
            yield []
        faults = faces.faults(connection, [job.entity_id for job in jobs])
        yield [Outcome(job, failure=faults.get(job.entity_id)) for job in jobs]

    def prepare_write(self, connection: Connection) -> None:
        ListsLock(connection, faces.KIND).take()

    def write(self, connection: Connection, outcomes: Sequence[Outcome]) -> dict[str, int]:
        changed = {outcome.job.entity_id for outcome in outcomes}
        self._figures += faces.update(connection, changed)
        # one transaction of the app may queue a face while another deletes it: not even its id may stay
        connection.execute(query("forget_jobs_of_deleted_faces"), {"face_ids": list(changed)})
        reported, self._figures = self._figures, Figures()
        return vars(reported)

    def forget(self, connection: Connection, job: Job) -> None:
        """Removes the pairs of a face that cannot match. After other errors the lists stay until the retry."""
        if faces.faults(connection, [job.entity_id]):
            faces.update(connection, {job.entity_id})

    def _match_crowd(self, connection: Connection, school: str) -> Figures:
        """Rebuilds the school and completes the jobs of its faces. Faces that cannot match fail one by one later."""
        parameters = {"school": school, "lease": self.lease}
        with connection.cursor(row_factory=class_row(Job)) as cursor:
            crowd = cursor.execute(query("claim_crowd"), parameters).fetchall()
        faults = faces.faults(connection, [job.entity_id for job in crowd])
        try:
            with ListsLock(connection, faces.KIND).alone():
                figures = faces.rebuild_school(connection, school)
            client.complete(connection, [job for job in crowd if job.entity_id not in faults])
            return figures
        except GAVE_WAY:
            return Figures()
        finally:
            if not connection.closed:
                client.snooze(connection, crowd, timedelta(0), None)
