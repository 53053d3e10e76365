"""The page of freshness and costs, and that of product pictures."""

from starlette.testclient import TestClient

from matching_pipeline.db.connections import Connection
from matching_pipeline_tests.fixtures.studio import Studio
from matching_pipeline_tests.integration.gallery.conftest import Open, token_of


def test_freshness_says_how_long_changes_take_and_what_they_cost(connection: Connection, gallery: TestClient) -> None:
    page = gallery.get("/freshness").text
    assert "no match was computed" in page
    assert "<circle" not in page
    connection.execute(
        """insert into matching_pipeline.jobs
            (queue, source, key, status, attempts, caused_at, started_at, completed_at)
        select 'matches_face', 'face', number, 'completed', 1, done - interval '3 seconds' * number, done, done
        from generate_series(1, 3) as number, (select now() - interval '5 minutes' as done) as moment"""
    )
    connection.execute(
        "insert into matching_pipeline.ai_calls (queue, model, items, cost_usd, milliseconds, outcome) "
        "values ('image_ai', 'm', 1, 1.5, 10, 'answered')"
    )
    connection.execute("select matching_pipeline.pause_queue('image_ai', 'tomorrow')")
    page = gallery.get("/freshness").text
    assert "median of 3 jobs, 95 of 100 within 9\u202fs" in page
    assert page.count("<circle") == 1
    assert "$1.50" in page
    assert "paused until" in page


def test_a_pack_stands_beside_its_photo_and_is_asked_for_again(
    connection: Connection, database_url: str, studio: Studio, open_gallery: Open
) -> None:
    gallery = open_gallery(image_file_roots=(studio.folder,))
    assert "No product picture has been made." in gallery.get("/packs").text
    project = studio.project()
    studio.ask(project)
    studio.work(database_url)
    page = gallery.get("/packs").text
    assert page.count('<img class="picture"') == 7
    for path in (f"/made/studio_project/scale?key={project}", f"/made/studio_project/scale?photo=1&key={project}"):
        assert gallery.get(path).headers["Content-Type"] == "image/png"
    fields = {"token": token_of(page), "source": "studio_project", "key": str(project), "back": "/packs"}
    asked = "select kind, payload from matching_pipeline.jobs where status = 'pending' and queue = 'generated_images'"
    again = gallery.post("/ask-again", data={**fields, "type": "scale"})
    assert "A job is pending: scale" in again.text
    assert connection.execute(asked).fetchall() == [
        ("single", {"image_type": "scale", "image_types": ["scale"], "force": True})
    ]
    gallery.post("/ask-again", data=fields)
    assert connection.execute(asked).fetchall()[1][0] == "complete_pack"


def test_a_file_outside_the_named_folders_is_not_shown(
    connection: Connection, database_url: str, studio: Studio, open_gallery: Open
) -> None:
    project = studio.project()
    studio.ask(project, "scale")
    studio.work(database_url)
    answer = open_gallery().get(f"/made/studio_project/scale?photo=1&key={project}")
    assert answer.status_code == 404
    assert "IMAGE_FILE_ROOTS" in answer.text
