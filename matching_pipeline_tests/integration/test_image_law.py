"""The law of `image_ai`: when its queue is empty it has the pictures of projects as they are now, and no other."""

import random
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from time import sleep
from typing import Any, cast
from uuid import UUID

import psycopg
import pytest

from matching_pipeline.db.connections import Connection
from matching_pipeline.handlers.images import ImageHandler
from matching_pipeline.pictures.fetch import ImageFetcher
from matching_pipeline.pictures.memory import DEFAULT_MEMORY, Memory
from matching_pipeline.pictures.web import Content
from matching_pipeline.queues.worker import QueueWorker
from matching_pipeline_tests.fixtures.pictures import CountingAnalyzer, picture
from matching_pipeline_tests.integration.meanwhile import change_while_workers_run

URLS = ("red", "green", "blue", "black", None)
STATEMENTS = (
    "insert into listings (type) values (%(type)s)",
    "insert into listing_images (listing_id, image_url) values (%(listing)s, %(url)s)",
    "insert into listing_images (listing_id, image_url) select id, %(url)s from listings limit 3",
    "update listing_images set image_url = %(url)s where id = %(image)s",
    "update listing_images set listing_id = %(listing)s where id = %(image)s",
    "update listing_images set listing_id = %(listing)s, image_url = %(url)s where listing_id = %(other)s",
    "update listings set type = %(type)s where id = %(listing)s",
    "update listings set id = gen_random_uuid() where id = %(listing)s",
    "update listing_images set id = gen_random_uuid() where id = %(image)s",
    "delete from listing_images where id = %(image)s",
    "delete from listings where id = %(listing)s",
    "with moved as (update listing_images set listing_id = %(listing)s where listing_id = %(other)s) "
    "delete from listings where id = %(other)s and id <> %(listing)s",
    "select enqueue_project_images(%(listing)s)",
    "insert into listing_images (id, listing_id, image_url) values (%(image)s, %(listing)s, %(url)s) "
    "on conflict (id) do update set image_url = excluded.image_url, listing_id = excluded.listing_id",
)


class PaintedPictures:
    """Fetches a picture of the colour that the URL names."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(2)

    def submit(self, url: str, version: str | None = None) -> "Future[Content]":
        return self._threads.submit(self._fetch, url)

    def _fetch(self, url: str) -> Content:
        sleep(random.random() / 100)
        return Content(picture(url))


def work(database_url: str) -> None:
    fetcher = cast(ImageFetcher, PaintedPictures())
    with ImageHandler(
        CountingAnalyzer(), fetcher, memory=Memory(DEFAULT_MEMORY), concurrency=2, queue="image_ai"
    ) as handler:
        handler.batch_size = 4
        QueueWorker(database_url, handler).run()


def act(connection: Connection, choose: random.Random) -> None:
    def some(table: str) -> UUID:
        ids = [id for (id,) in connection.execute(f"select id from {table} order by id limit 10".encode())]
        return choose.choice(ids) if ids else UUID(int=1)

    parameters: dict[str, Any] = {
        "type": choose.choice(["project", "project", "service"]),
        "url": choose.choice(URLS),
        "listing": some("listings"),
        "other": some("listings"),
        "image": some("listing_images"),
    }
    statements = [choose.choice(STATEMENTS) for _ in range(choose.choice([1, 1, 2]))]
    # rows that another app has deleted or locked meanwhile
    with suppress(psycopg.errors.ForeignKeyViolation, psycopg.errors.DeadlockDetected), connection.transaction():
        for statement in statements:
            connection.execute(statement.encode(), parameters)
            sleep(choose.random() / 100)


def holds(connection: Connection) -> None:
    """Every picture of a project has its embedding, and there is no other row."""
    wrong = connection.execute(
        """select images.id, images.image_url, image_ai.image_id, image_ai.image_url
        from (
            select listing_images.* from listing_images join listings on listings.id = listing_id
            where type = 'project' and image_url is not null
        ) as images
        full join image_ai on image_ai.image_id = images.id and image_ai.image_url = images.image_url
        where images.id is null or image_ai.image_id is null"""
    ).fetchall()
    assert wrong == []
    strangers = connection.execute(
        """select entities.key, items.key from matching_pipeline.entities
        left join matching_pipeline.items on items.entity = entities.id and items.source = entities.source
        where not exists (select from listings where id = entities.id and type = 'project')
           or items.id is not null and not exists (
               select from listing_images where id = items.id and listing_id = items.entity
           )"""
    ).fetchall()
    assert strangers == []
    unfinished = connection.execute(
        "select * from job_queue where status in ('pending', 'processing') and queue = 'image_ai'"
    ).fetchall()
    assert unfinished == []


@pytest.mark.parametrize("seed", range(2))
def test_it_holds_whatever_the_app_does_while_workers_run(
    connection: Connection, database_url: str, seed: int
) -> None:
    change_while_workers_run(database_url, seed, act, lambda: work(database_url))
    for _ in range(3):  # what a worker released, and what it then enqueued for a second later
        connection.execute("update matching_pipeline.jobs set run_at = now() where status = 'pending'")
        work(database_url)
    holds(connection)
