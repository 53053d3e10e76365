"""Product pictures where something is wrong: with the photo, the provider, or the store."""

import errno
import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from matching_pipeline.errors import ConfigurationError, PermanentFailure, ProviderUnavailable, TransientFailure
from matching_pipeline.pictures import folder_store as picture_folder
from matching_pipeline.pictures.store import PictureStore
from matching_pipeline.sources.attach import attach
from matching_pipeline.sources.declarations import Declarations
from matching_pipeline_tests.conftest import EXAMPLES
from matching_pipeline_tests.fixtures.pictures import PictureServer
from matching_pipeline_tests.fixtures.studio import TYPES, PaintGenerator, Studio


def raising(error: Exception, *types: str) -> Callable[[str], None]:
    def before(image_type: str) -> None:
        if image_type in types:
            raise error

    return before


@pytest.mark.parametrize("url", [None, "", "  "])
def test_a_project_without_a_photo_fails_at_once_and_says_so(
    studio: Studio, database_url: str, url: str | None
) -> None:
    project = studio.project()
    studio.run("update projects set source_image_url = %s", url)
    job = studio.ask(project)
    studio.work(database_url)
    assert studio.job(job) == ("failed", "photo: there is none: its URL is empty")
    assert studio.state(project) == "FAILED"


def test_a_photo_that_is_gone_or_broken_fails_at_once(studio: Studio, database_url: str) -> None:
    (studio.folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    gone = studio.project((studio.folder / "gone.png").as_uri())
    broken = studio.project((studio.folder / "broken.png").as_uri())
    jobs = [studio.ask(gone), studio.ask(broken)]
    generator = PaintGenerator()
    studio.work(database_url, generator)
    assert [studio.job(job)[0] for job in jobs] == ["failed", "failed"]
    assert "no such file" in str(studio.job(jobs[0])[1])
    assert "PNG" in str(studio.job(jobs[1])[1])
    assert not generator.asked


def test_a_photo_that_is_out_of_reach_is_tried_again(studio: Studio, database_url: str) -> None:
    project = studio.project("http://127.0.0.1:1/photo.jpg")
    job = studio.ask(project)
    studio.work(database_url)
    status, reason = studio.job(job)
    assert status == "pending"
    assert "127.0.0.1" in str(reason)
    assert studio.state(project) == "PENDING"
    for _ in range(2):
        studio.make_due()
        studio.work(database_url)
    assert studio.job(job)[0] == "failed"
    assert studio.state(project) == "FAILED"


@pytest.fixture
def photo_of_a_file(studio: Studio) -> None:
    """A source whose photo is an expression, which fails for a number that is too large."""
    source = EXAMPLES.source("studio_project")
    expression = "t.source_image_url || case when t.number is not null then t.number::smallint::text else '' end"
    studio.run("alter table projects add number integer")
    attach(
        studio.connection,
        Declarations(sources=(source.model_copy(update={"photo": expression}),), generated=EXAMPLES.generated),
    )


@pytest.mark.usefixtures("photo_of_a_file")
def test_a_row_for_which_the_expression_fails_is_one_dead_letter(studio: Studio, database_url: str) -> None:
    projects = [studio.project() for _ in range(5)]
    jobs = [studio.ask(project, "scale") for project in projects]
    studio.run("update projects set number = 1000000 where id = %s", projects[2])
    studio.work(database_url, PaintGenerator(concurrency=5))
    assert studio.job(jobs.pop(2)) == (
        "failed",
        "an expression of the source studio_project fails for this row: SQLSTATE 22003",
    )
    assert [studio.job(job) for job in jobs] == [("completed", None)] * 4
    assert studio.state(projects[2]) == "FAILED"
    studio.run("update projects set number = null")
    studio.run("select retry_jobs('generated_images')")
    studio.work(database_url)
    assert studio.state(projects[2]) == "COMPLETED"


@pytest.mark.usefixtures("photo_of_a_file")
def test_a_column_that_is_gone_is_one_fault_of_the_source_and_the_apps_writes_go_on(
    studio: Studio, database_url: str
) -> None:
    project = studio.project()
    job = studio.ask(project, "scale")
    studio.run("alter table projects rename column source_image_url to photo")
    generator = PaintGenerator()
    assert studio.work(database_url, generator).counts["snoozed"] == 1
    status, reason = studio.job(job)
    assert (status, "the source studio_project cannot be read" in str(reason)) == ("pending", True)
    assert studio.run("select attempts - snoozes from job_queue") == [0]
    studio.run("insert into projects (photo) values ('file:///given')")
    studio.run("update projects set status = 'COMPLETED'")
    studio.run("alter table projects rename column photo to source_image_url")
    studio.make_due()
    studio.work(database_url, generator)
    assert studio.job(job) == ("completed", None)
    assert studio.state(project) == "COMPLETED"


def test_where_the_column_of_the_status_is_gone_pictures_are_made_all_the_same(
    studio: Studio, database_url: str
) -> None:
    project = studio.project()
    studio.run("alter table projects rename column status to progress")
    job = studio.ask(project, "scale")
    studio.work(database_url)
    assert studio.job(job) == ("completed", None)
    studio.publish(database_url)
    (reason,) = studio.run("select error_message from matching_pipeline.jobs where kind = 'status'")
    assert "status does not exist" in reason
    studio.run("alter table projects rename column progress to status")
    studio.publish(database_url)
    assert studio.state(project) == "COMPLETED"


def test_a_picture_that_the_provider_refuses_fails_alone_and_is_retried_alone(
    studio: Studio, database_url: str
) -> None:
    project = studio.project()
    job = studio.ask(project)
    refusing = PaintGenerator(raising(PermanentFailure("against the content policy"), "lifestyle"))
    studio.work(database_url, refusing)
    assert studio.job(job) == ("failed", "lifestyle: against the content policy")
    assert studio.state(project) == "FAILED"
    kept = studio.pictures(project)
    assert set(kept) == {*TYPES} - {"lifestyle"}
    studio.run("select retry_jobs('generated_images')")
    assert studio.state(project) == "PENDING"
    generator = PaintGenerator()
    studio.work(database_url, generator)
    assert generator.asked == ["lifestyle"]
    assert studio.state(project) == "COMPLETED"
    assert kept.items() <= studio.pictures(project).items()


def test_a_failed_job_is_deleted_when_another_request_has_made_its_pictures(
    studio: Studio, database_url: str
) -> None:
    project = studio.project()
    studio.ask(project)
    studio.work(database_url, PaintGenerator(raising(PermanentFailure("refused"), "scale", "lifestyle")))
    studio.ask(project, "scale")
    studio.work(database_url)
    assert studio.state(project) == "FAILED"
    studio.ask(project, "lifestyle")
    studio.work(database_url)
    assert studio.state(project) == "COMPLETED"
    assert studio.run("select distinct status from job_queue") == ["completed"]


def test_of_two_forced_packs_that_failed_the_newer_stays_and_its_retry_makes_what_is_missing(
    studio: Studio, database_url: str
) -> None:
    project = studio.project()
    studio.ask(project, force=True)
    studio.work(database_url, PaintGenerator(raising(PermanentFailure("refused"), "scale")))
    newer = studio.ask(project, force=True)
    studio.work(database_url, PaintGenerator(raising(PermanentFailure("refused"), "lifestyle")))
    assert studio.run("select id from job_queue where status = 'failed'") == [newer]
    made = studio.pictures(project)

    assert studio.run("select retry_jobs('generated_images')") == [1]
    generator = PaintGenerator()
    studio.work(database_url, generator)
    assert generator.asked == ["lifestyle"]
    assert studio.run("select id from job_queue where status = 'completed'") == [newer]
    assert studio.run("select count(*) from job_queue") == [1]
    assert dict(made.items() - studio.pictures(project).items()).keys() == {"lifestyle"}
    assert studio.state(project) == "COMPLETED"


def test_a_hiccup_and_a_refusal_together_are_tried_again(studio: Studio, database_url: str) -> None:
    job = studio.ask(studio.project())

    def before(image_type: str) -> None:
        raising(PermanentFailure("refused"), "scale")(image_type)
        raising(TransientFailure("hiccup"), "lifestyle")(image_type)

    studio.work(database_url, PaintGenerator(before))
    status, reason = studio.job(job)
    assert status == "pending"
    assert {*str(reason).split("; ")} == {"scale: refused", "lifestyle: hiccup"}


def test_a_provider_that_is_down_counts_no_attempt_and_the_pictures_made_stay(
    studio: Studio, database_url: str
) -> None:
    project = studio.project()
    job = studio.ask(project)
    down = ProviderUnavailable("it is down", timedelta(minutes=1))
    with pytest.raises(ProviderUnavailable, match="it is down"):
        studio.work(database_url, PaintGenerator(raising(down, TYPES[2]), concurrency=1))
    made = set(studio.pictures(project))
    assert made >= set(TYPES[:2])
    assert TYPES[2] not in made
    assert studio.job(job) == ("pending", "it is down")
    assert studio.run("select attempts - snoozes from job_queue where run_at > now() + interval '50 s'") == [0]
    studio.make_due()
    generator = PaintGenerator()
    studio.work(database_url, generator)
    assert sorted(generator.asked) == sorted({*TYPES} - made)


def test_a_forbidden_store_is_found_before_anything_is_paid_for(studio: Studio, database_url: str) -> None:
    studio.made.write_text("a file where the folder should be")
    job = studio.ask(studio.project())
    generator = PaintGenerator()
    with pytest.raises(ConfigurationError, match="GENERATED_IMAGES_URL"):
        studio.work(database_url, generator)
    assert not generator.asked
    assert studio.job(job)[0] == "pending"


def test_a_full_store_snoozes_the_queue_before_anything_is_paid_for(
    studio: Studio, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(picture_folder, "_write_through", full)
    project = studio.project()
    job = studio.ask(project)
    generator = PaintGenerator()
    with pytest.raises(ProviderUnavailable, match="No space left on device"):
        studio.work(database_url, generator)
    assert not generator.asked
    assert studio.run("select attempts - snoozes from job_queue") == [0]
    assert "No space left" in str(studio.job(job)[1])
    monkeypatch.undo()
    studio.make_due()
    studio.work(database_url, generator)
    assert studio.state(project) == "COMPLETED"


def test_a_store_that_becomes_full_keeps_the_pictures_that_it_has(
    studio: Studio, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = studio.project()
    studio.ask(project)
    store = PictureStore(studio.made.as_uri())
    put = store.put

    def put_three(data: bytes, extension: str) -> str:
        if len(studio.files()) == 3:
            raise ProviderUnavailable("GENERATED_IMAGES_URL: full", timedelta(minutes=2))
        return put(data, extension)

    monkeypatch.setattr(store, "put", put_three)
    with pytest.raises(ProviderUnavailable):
        studio.work(database_url, PaintGenerator(concurrency=1), store)
    assert set(studio.pictures(project).values()) == studio.files()
    assert len(studio.files()) == 3


def test_a_host_of_photos_that_asks_to_wait_costs_no_attempt(studio: Studio, database_url: str) -> None:
    with PictureServer() as limited:
        job = studio.ask(studio.project(limited.put("/photo.jpg", b"", status=429)))
        studio.work(database_url)
        limited.shutdown()
    status, reason = studio.job(job)
    assert (status, "429" in str(reason)) == ("pending", True)
    assert studio.run(
        "select attempts = snoozes and run_at > now() + interval '20 s' from matching_pipeline.jobs"
    ) == [True]
