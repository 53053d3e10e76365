"""The queue `generated_images` through OpenAI: a pack, a refusal, a provider that is away, a kill, force."""

from collections.abc import Callable, Iterator
from decimal import Decimal

import pytest

from matching_pipeline.db.connections import Connection
from matching_pipeline.errors import ProviderUnavailable
from matching_pipeline.handlers import registry
from matching_pipeline.providers.call_log import queue_cost_today
from matching_pipeline.queues.progress import Summary
from matching_pipeline.settings import Settings
from matching_pipeline_tests.conftest import EXAMPLES
from matching_pipeline_tests.fixtures.openai_images import moderation_blocked
from matching_pipeline_tests.fixtures.openai_server import Fault, OpenAIServer, server_error
from matching_pipeline_tests.fixtures.pictures import PictureServer, picture
from matching_pipeline_tests.fixtures.studio import QUEUE, TYPES, Studio

Work = Callable[..., Summary]
DIE_BEFORE_THE_FILE = """
import os, signal
from matching_pipeline.handlers import registry
from matching_pipeline.pictures.store import PictureStore
from matching_pipeline.settings import Settings
from matching_pipeline.sources.documents import declared
PictureStore.put = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
settings = Settings()
registry.process_due(settings, settings.database_url, declared(settings), "generated_images")
"""


@pytest.fixture
def photo() -> Iterator[str]:
    with PictureServer() as pictures:
        yield pictures.put("/mug", picture("teal", (320, 240)))
        pictures.shutdown()


@pytest.fixture
def work(settings_for: Callable[..., Settings], database_url: str, studio: Studio) -> Work:
    def work(**changes: object) -> Summary:
        settings = settings_for(image_allow_private_hosts=True, generated_images_url=studio.made.as_uri(), **changes)
        return registry.process_due(settings, database_url, EXAMPLES, QUEUE)

    return work


def test_a_pack_is_made_by_the_model_and_every_picture_says_what_it_cost(
    studio: Studio, photo: str, work: Work, server: OpenAIServer, connection: Connection
) -> None:
    project = studio.project(photo)
    studio.ask(project)
    assert work().completed == 1
    assert studio.state(project) == "COMPLETED"
    assert set(studio.pictures(project)) == set(TYPES)
    assert set(studio.pictures(project).values()) == studio.files()
    prompts = {body["prompt"].decode() for body in server.bodies}
    assert prompts == set(studio.run("select prompt from matching_pipeline.image_types"))
    rows = connection.execute("select distinct model, width, height, media_type from generated_images").fetchall()
    assert rows == [("gpt-image-2.6-sunburst/medium/edit-1", 1024, 1024, "image/jpeg")]
    (total,) = studio.run("select sum(cost_usd) from generated_images")
    cost = queue_cost_today(connection, QUEUE)
    assert (cost.requests, cost.cost_usd) == (6, total)
    assert total > Decimal("0.18")


def test_a_refused_picture_fails_alone_with_the_reason(
    studio: Studio, photo: str, work: Work, server: OpenAIServer
) -> None:
    server.refused_word = "flat lay"
    project = studio.project(photo)
    job = studio.ask(project)
    work()
    status, reason = studio.job(job)
    assert status == "failed"
    assert "packaging_flat_lay: gpt-image-2.6-sunburst refuses it: " in str(reason)
    assert studio.state(project) == "FAILED"
    assert set(studio.pictures(project)) == {*TYPES} - {"packaging_flat_lay"}


def test_a_provider_that_is_away_costs_no_attempt(
    studio: Studio, photo: str, work: Work, server: OpenAIServer
) -> None:
    server.fault = server_error(503)
    project = studio.project(photo)
    job = studio.ask(project, "scale")
    with pytest.raises(ProviderUnavailable, match="overloaded"):
        work()
    assert studio.job(job)[0] == "pending"
    assert studio.run("select attempts - snoozes from job_queue") == [0]
    server.fault = None
    studio.make_due()
    assert work().completed == 1
    assert studio.state(project) == "COMPLETED"


def test_force_buys_another_picture_and_its_retry_does_not(
    studio: Studio, photo: str, work: Work, server: OpenAIServer
) -> None:
    project = studio.project(photo)
    studio.ask(project, "scale")
    work()
    studio.ask(project, "scale")
    work()
    assert server.asked["/images/edits"] == 1
    for bought in (2, 3):
        studio.ask(project, "scale", force=True)
        work()
        assert server.asked["/images/edits"] == bought
    server.faults.extend([Fault(), Fault(moderation_blocked())])
    pack = studio.ask(project, force=True)
    work(openai_concurrency=1)
    asked = server.asked["/images/edits"]
    assert (studio.job(pack)[0], asked) == ("failed", 3 + 6)
    studio.run("delete from matching_pipeline.generated_images")
    studio.run("select retry_jobs('generated_images', array[%s]::uuid[])", pack)
    work()
    assert set(studio.pictures(project)) == set(TYPES)
    assert server.asked["/images/edits"] == asked + 1


def test_another_project_with_the_same_photo_has_the_same_picture_for_nothing(
    studio: Studio, photo: str, work: Work, server: OpenAIServer
) -> None:
    projects = [studio.project(photo), studio.project(photo)]
    for project in projects:
        studio.ask(project, "scale")
    work()
    assert server.asked["/images/edits"] == 1
    assert studio.pictures(projects[0]) == studio.pictures(projects[1])


@pytest.mark.parametrize("force", [False, True])
def test_a_picture_that_reached_a_killed_worker_is_not_bought_again(
    studio: Studio, photo: str, work: Work, server: OpenAIServer, run_killed: Callable[..., None], force: bool
) -> None:
    project = studio.project(photo)
    studio.ask(project, "scale", force=force)
    run_killed(DIE_BEFORE_THE_FILE, GENERATED_IMAGES_URL=studio.made.as_uri())
    assert not studio.pictures(project)
    assert server.asked["/images/edits"] == 1
    studio.run("update matching_pipeline.jobs set run_at = now() - interval '1 second'")
    assert work().completed == 1
    assert server.asked["/images/edits"] == 1
    assert set(studio.pictures(project).values()) == studio.files()
