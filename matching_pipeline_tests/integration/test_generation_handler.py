"""Product pictures against a real database and a real folder. No picture is made twice."""

import threading
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256

from matching_pipeline.handlers.registry import process_due
from matching_pipeline.settings import Settings
from matching_pipeline_tests.conftest import EXAMPLES
from matching_pipeline_tests.fixtures.studio import QUEUE, TYPES, PaintGenerator, Studio


def test_a_pack_is_six_pictures_and_completes_its_project(studio: Studio, database_url: str) -> None:
    project = studio.project()
    job = studio.ask(project)
    assert studio.state(project) == "PENDING"
    states: list[str] = []
    generator = PaintGenerator(before=lambda _: states.append(studio.state(project)), concurrency=1)
    assert studio.work(database_url, generator).completed == 1
    assert studio.job(job) == ("completed", None)
    assert studio.state(project) == "COMPLETED"
    assert set(states) == {"PROCESSING"}
    assert sorted(generator.asked) == sorted(TYPES)
    assert set(studio.pictures(project)) == set(TYPES)
    assert set(studio.pictures(project).values()) == studio.files()


def test_a_row_says_what_the_picture_is_and_what_it_was_made_from(studio: Studio, database_url: str) -> None:
    project = studio.project()
    studio.ask(project, "scale")
    studio.work(database_url)
    rows = studio.connection.execute(
        """select image_type, width, height, media_type, bytes > 0, model, source_url, cost_usd::text, source_hash
        from generated_images"""
    ).fetchall()
    source_hash = sha256((studio.folder / "photo.png").read_bytes()).digest()
    assert rows == [("scale", 40, 30, "image/png", True, "paint", studio.photo(), "0.040000", source_hash)]


def test_the_local_generator_needs_nothing_but_the_photo(studio: Studio, database_url: str) -> None:
    project = studio.project()
    studio.ask(project, "white_background")
    settings = Settings(data_dir=studio.folder, image_file_roots=(studio.folder,))
    assert process_due(settings, database_url, EXAMPLES, QUEUE).completed == 1
    (url,) = studio.pictures(project).values()
    assert url.startswith((studio.folder / "generated_pictures").as_uri())
    assert studio.run("select width from generated_images") == [1080]


def test_asking_again_for_what_is_there_makes_nothing(studio: Studio, database_url: str) -> None:
    project = studio.project()
    studio.ask(project)
    studio.work(database_url)
    before = studio.pictures(project)
    jobs = [studio.ask(project), studio.ask(project, "scale")]
    again = PaintGenerator()
    studio.work(database_url, again)
    assert not again.asked
    assert studio.pictures(project) == before
    assert [studio.job(job)[0] for job in jobs] == ["completed", "completed"]
    assert studio.state(project) == "COMPLETED"


def test_a_forced_request_makes_another_picture_once(studio: Studio, database_url: str) -> None:
    project = studio.project()
    studio.ask(project)
    studio.work(database_url)
    before = studio.pictures(project)
    studio.ask(project, "scale", force=True)
    again = PaintGenerator()
    studio.work(database_url, again)
    assert again.asked == ["scale"]
    changed = {name for name, url in studio.pictures(project).items() if url != before[name]}
    assert changed == {"scale"}


def test_a_pack_makes_only_what_singles_have_not_made(studio: Studio, database_url: str) -> None:
    project = studio.project()
    studio.ask(project, "scale")
    studio.work(database_url)
    studio.ask(project)
    generator = PaintGenerator()
    studio.work(database_url, generator)
    assert sorted(generator.asked) == sorted({*TYPES} - {"scale"})


def test_after_a_change_of_the_photo_the_next_request_makes_another_picture(
    studio: Studio, database_url: str
) -> None:
    project = studio.project(studio.photo("teal"))
    studio.ask(project, "scale")
    studio.work(database_url)
    (before,) = studio.pictures(project).values()
    studio.run("update projects set source_image_url = %s", studio.photo("red", "red.png"))
    assert studio.state(project) == "COMPLETED"
    assert list(studio.pictures(project).values()) == [before]
    studio.ask(project, "scale")
    generator = PaintGenerator()
    studio.work(database_url, generator)
    assert generator.asked == ["scale"]
    assert list(studio.pictures(project).values()) != [before]


def test_the_same_photo_by_another_url_is_not_paid_for_twice(studio: Studio, database_url: str) -> None:
    project = studio.project(studio.photo("teal"))
    studio.ask(project)
    studio.work(database_url)
    before = studio.pictures(project)
    moved = studio.photo("teal", "moved.png")
    studio.run("update projects set source_image_url = %s", moved)
    studio.ask(project)
    generator = PaintGenerator()
    assert studio.work(database_url, generator).completed == 1
    assert not generator.asked
    assert studio.pictures(project) == before
    assert set(studio.run("select source_url from generated_images")) == {moved}
    studio.ask(project, force=True)
    studio.work(database_url, generator)
    assert sorted(generator.asked) == sorted(TYPES)


def test_several_pictures_are_made_at_once(studio: Studio, database_url: str) -> None:
    project = studio.project()
    studio.ask(project)
    together = threading.Barrier(3, timeout=20)

    def meet(image_type: str) -> None:
        together.wait()

    studio.work(database_url, PaintGenerator(meet, concurrency=3))
    assert set(studio.pictures(project)) == set(TYPES)


def test_two_workers_on_one_project_never_make_the_same_picture(studio: Studio, database_url: str) -> None:
    project = studio.project()
    studio.ask(project, "scale")
    begun, go_on = threading.Event(), threading.Event()

    def hold(image_type: str) -> None:
        begun.set()
        go_on.wait(20)

    slow, quick = PaintGenerator(before=hold, concurrency=1), PaintGenerator(concurrency=2)
    with ThreadPoolExecutor(1) as threads:
        single = threads.submit(studio.work, database_url, slow)
        assert begun.wait(20)
        pack = studio.ask(project)
        summary = studio.work(database_url, quick)
        assert (summary.completed, summary.counts["snoozed"]) == (0, 1)
        assert studio.job(pack) == ("pending", "scale: another worker is making it")
        assert studio.run("select attempts - snoozes from job_queue where id = %s", pack) == [0]
        assert studio.state(project) == "PROCESSING"
        go_on.set()
        assert single.result(20).completed == 1
    studio.make_due()
    assert studio.work(database_url, quick).completed == 1
    assert slow.asked == ["scale"]
    assert sorted(quick.asked) == sorted({*TYPES} - {"scale"})
    assert studio.state(project) == "COMPLETED"


def test_a_pack_and_a_single_in_one_batch_do_not_make_the_same_picture(studio: Studio, database_url: str) -> None:
    project = studio.project()
    studio.ask(project)
    studio.ask(project, "scale", force=True)
    generator = PaintGenerator(concurrency=4)
    studio.work(database_url, generator)
    studio.make_due()
    studio.work(database_url, generator)
    assert sorted(generator.asked) == sorted(TYPES)
    assert studio.run("select distinct status from job_queue") == ["completed"]


def test_a_picture_of_an_older_photo_does_not_replace_one_of_the_present(studio: Studio, database_url: str) -> None:
    project = studio.project()
    job = studio.ask(project, "scale")
    ((attempt,),) = studio.connection.execute("select attempts from get_next_job()").fetchall()

    def save(url: str, source_url: str) -> list[bool]:
        return studio.run(
            "select save_generated_image(%s, %s, 'scale', %s, 1, 1, 'image/png', 1, 'm', %s, sha256('x'))",
            *(job, attempt, url, source_url),
        )

    assert save("file:///new", studio.photo()) == [True]
    assert save("file:///old", "file:///former-photo") == [True]
    assert studio.pictures(project) == {"scale": "file:///new"}
