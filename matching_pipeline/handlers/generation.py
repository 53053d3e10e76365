"""The `generated_images` lane: fetch a project's photo, make the pictures that are asked for and missing.

An item asks for one picture or a whole pack. Each picture is kept as it comes, inside `work`: its file first, then
its row in a short transaction of its own, fenced by the item's lease. So a pack that fails at one picture, or whose
worker is killed, keeps the others, which were paid for, and its retry makes only what is missing. The transaction
that completes the item could not do that: it would hold minutes of work back until the last picture, and lose it all.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Self
from uuid import UUID

import psycopg
from PIL import Image

from matching_pipeline.db.connections import Connection
from matching_pipeline.db.transactions import GAVE_WAY
from matching_pipeline.errors import (
    ConfigurationError,
    PermanentFailure,
    ProviderUnavailable,
    TransientFailure,
    as_job_failure,
)
from matching_pipeline.pictures.decode import decode
from matching_pipeline.pictures.fetch import ImageFetcher
from matching_pipeline.pictures.orders import (
    Order,
    is_wanted,
    keep_unchanged,
    read_orders,
    release_picture,
    save_picture,
    take_picture,
)
from matching_pipeline.pictures.store import PictureStore
from matching_pipeline.providers.protocols import GeneratedPicture, ImageGenerator
from matching_pipeline.queues.client import Job
from matching_pipeline.queues.worker import Outcome

QUEUE = "generated_images"
STOPS = (ProviderUnavailable, ConfigurationError)
PATIENCE_SECONDS = 2.0
"""The drain gets a word this often, so that it renews its leases while a picture is made."""
EXTENSIONS = {"image/jpeg": "jpg", "image/png": "png", "image/webp": "webp"}
"""By media type."""


@dataclass(frozen=True)
class Photo:
    picture: Image.Image
    content_hash: bytes


@dataclass(frozen=True)
class Stored:
    """A picture whose file is written."""

    picture: GeneratedPicture
    url: str
    source_hash: bytes


class GenerationHandler:
    """Makes a few pictures at once, as many as the generator says."""

    queue = QUEUE
    lease = timedelta(minutes=2)

    def __init__(
        self, generator: ImageGenerator, fetcher: ImageFetcher, store: PictureStore, *, max_pixels: int
    ) -> None:
        self.batch_size = generator.concurrency
        self.generator = generator
        self._fetcher = fetcher
        self._store = store
        self._max_pixels = max_pixels
        self._fetches = ThreadPoolExecutor(generator.concurrency, thread_name_prefix="fetch")
        self._makers = ThreadPoolExecutor(generator.concurrency, thread_name_prefix="make")

    def work(self, connection: Connection, jobs: Sequence[Job]) -> Iterator[list[Outcome]]:
        """Yields outcomes one by one: each transaction then touches one project only."""
        orders = {order.job: order for order in read_orders(connection, jobs)}
        for job in jobs:
            if job not in orders:  # its project is gone, and owes nothing
                yield [Outcome(job)]
        for order in orders.values():
            if order.prompts and not order.source_url.strip():
                order.failures["photo"] = PermanentFailure("the project has none: its source_image_url is empty")
        to_make = [order for order in orders.values() if order.prompts and not order.failures]
        for order in orders.values():
            if order not in to_make:
                yield [order.outcome()]
        if to_make:
            self._store.probe()  # before anything is paid for
            yield from _Making(self, connection, to_make).run()

    def prepare_write(self, connection: Connection) -> None:
        """Projects are independent of each other."""

    def write(self, connection: Connection, outcomes: Sequence[Outcome]) -> None:
        """The rows are there already."""

    def forget(self, connection: Connection, job: Job) -> None:
        """What an earlier photo gave stays until there is something new: a shop shows it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._fetches.shutdown(wait=False, cancel_futures=True)
        self._makers.shutdown(wait=False, cancel_futures=True)

    def fetch(self, url: str) -> "Future[Photo]":
        return self._fetches.submit(self._photo, url)

    def make(self, photo: Photo, image_type: str, prompt: str, anew: UUID | None) -> "Future[Stored]":
        return self._makers.submit(self._stored, photo, image_type, prompt, anew)

    def _photo(self, url: str) -> Photo:
        data = self._fetcher.fetch(url)
        return Photo(decode(data, max_pixels=self._max_pixels), hashlib.sha256(data).digest())

    def _stored(self, photo: Photo, image_type: str, prompt: str, anew: UUID | None) -> Stored:
        picture = self.generator.generate(photo.picture, image_type, prompt, anew)
        if picture.media_type not in EXTENSIONS:
            raise TransientFailure(f"{self.generator.model} gave a picture of the type {picture.media_type}")
        url = self._store.put(picture.data, EXTENSIONS[picture.media_type])
        return Stored(picture, url, photo.content_hash)


class _Making:
    """The pictures of one batch under way."""

    def __init__(self, handler: GenerationHandler, connection: Connection, orders: Sequence[Order]) -> None:
        self._handler = handler
        self._connection = connection
        self._photos = {url: handler.fetch(url) for url in {order.source_url for order in orders}}
        self._unbegun = list(orders)
        self._under_way: dict[Future[Stored], tuple[Order, str]] = {}
        self._stopping: BaseException | None = None

    def run(self) -> Iterator[list[Outcome]]:
        """What stops one picture stops those that have not begun, and is raised once those under way, which are paid
        for, are kept."""
        open_orders = list(self._unbegun)
        try:
            while self._unbegun or self._under_way:
                awaited: list[Future[Any]] = [self._photos[order.source_url] for order in self._unbegun]
                wait([*awaited, *self._under_way], timeout=PATIENCE_SECONDS, return_when=FIRST_COMPLETED)
                self._begin_what_is_fetched()
                self._keep_what_is_made()
                if self._stopping:
                    self._drop_what_has_not_begun()
                lock_busy = {*self._unbegun, *(order for order, _ in self._under_way.values())}
                yield []
                for order in [order for order in open_orders if order not in lock_busy]:
                    open_orders.remove(order)
                    if not self._stopping or not order.prompts:
                        yield [order.outcome()]
        finally:
            self._let_go()
        if self._stopping:
            raise self._stopping

    def _begin_what_is_fetched(self) -> None:
        fetched = [order for order in self._unbegun if self._photos[order.source_url].done()]
        self._unbegun = [order for order in self._unbegun if order not in fetched]
        for order in fetched:
            photo = self._photos[order.source_url]
            if error := photo.exception():
                order.failures["photo"] = as_job_failure(error)
            else:
                self._begin(order, photo.result())

    def _begin(self, order: Order, photo: Photo) -> None:
        try:
            keep_unchanged(self._connection, order, photo.content_hash)
        except GAVE_WAY:
            order.waits["photo"] = "its rows are locked"
            return
        for image_type, prompt in [*order.prompts.items()]:
            if prompt is None:
                order.failures[image_type] = PermanentFailure("there is no such image type any more")
            elif self._is_ours(order, image_type) or not take_picture(self._connection, order, image_type):
                order.waits[image_type] = "another worker is making it"
            elif is_wanted(self._connection, order, image_type):
                self._under_way[self._handler.make(photo, image_type, prompt, order.anew)] = order, image_type
            else:
                release_picture(self._connection, order, image_type)
                del order.prompts[image_type]

    def _is_ours(self, order: Order, image_type: str) -> bool:
        """By another item of the batch: a session is given its own locks again."""
        return any((o.project_id, t) == (order.project_id, image_type) for o, t in self._under_way.values())

    def _keep_what_is_made(self) -> None:
        for made in [future for future in self._under_way if future.done()]:
            order, image_type = self._under_way[made]
            try:
                if isinstance(made.exception(), STOPS):
                    self._stopping = self._stopping or made.exception()
                elif not order.ended:
                    self._keep(order, image_type, made)
            finally:
                del self._under_way[made]
                with suppress(psycopg.OperationalError):
                    release_picture(self._connection, order, image_type)

    def _keep(self, order: Order, image_type: str, made: "Future[Stored]") -> None:
        if error := made.exception():
            order.failures[image_type] = as_job_failure(error)
            return
        stored, model = made.result(), self._handler.generator.model
        try:
            standing = save_picture(
                self._connection, order, image_type, stored.picture,
                url=stored.url, model=model, source_hash=stored.source_hash,
            )  # fmt: skip
        except GAVE_WAY:
            order.waits[image_type] = "its rows are locked"
            return
        except psycopg.Error as error:
            if self._connection.closed:
                raise
            order.failures[image_type] = TransientFailure(f"the database refuses its row: {error}")
            return
        del order.prompts[image_type]
        if not standing:
            order.ended = True
            self._cancel(lambda other: other is order)

    def _drop_what_has_not_begun(self) -> None:
        self._unbegun = []
        self._cancel(lambda order: True)

    def _cancel(self, concerned: Callable[[Order], bool]) -> None:
        for future, (order, image_type) in [*self._under_way.items()]:
            if concerned(order) and future.cancel():
                del self._under_way[future]
                release_picture(self._connection, order, image_type)

    def _let_go(self) -> None:
        """Where the drain stops us in the middle; a session that is lost has let go by itself."""
        futures: list[Future[Any]] = [*self._photos.values(), *self._under_way]
        for future in futures:
            future.cancel()
        with suppress(psycopg.Error):
            for order, image_type in self._under_way.values():
                release_picture(self._connection, order, image_type)
