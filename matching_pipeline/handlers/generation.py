"""Queues of generated images: fetches an entity's photo and makes the missing pictures that a job asks for.

`work` keeps each picture as soon as it is made. It stores the file first. Then it writes the row in a short
transaction of its own, fenced by the job's lease. So a job that fails at one picture, or whose worker is killed,
keeps the others, which are paid for. Its retry makes only what is missing. The transaction that completes the job
commits minutes later, when the last picture is made. That would be too late to store the first.
"""

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Self

import psycopg
from PIL import Image

from matching_pipeline.db.connections import Connection
from matching_pipeline.db.transactions import GAVE_WAY
from matching_pipeline.errors import JobFailure, PermanentFailure, SourceUnreadable, TransientFailure
from matching_pipeline.pictures.decode import decode
from matching_pipeline.pictures.fetch import ImageFetcher
from matching_pipeline.pictures.memory import Memory
from matching_pipeline.pictures.orders import (
    AskedPicture,
    Order,
    PictureState,
    StoredPicture,
    is_missing,
    keep_unchanged,
    lock_picture,
    read_orders,
    save_picture,
    unlock_picture,
)
from matching_pipeline.pictures.store import PictureStore
from matching_pipeline.providers.protocols import ImageGenerator
from matching_pipeline.queues.client import Job
from matching_pipeline.queues.futures import PATIENCE_SECONDS, Futures
from matching_pipeline.queues.handler import Outcome
from matching_pipeline.sources.reading import read_each

EXTENSIONS = {"image/jpeg": "jpg", "image/png": "png", "image/webp": "webp"}
"""By media type."""


@dataclass(frozen=True)
class Photo:
    pixels: Image.Image
    content_hash: bytes


class GenerationHandler:
    """Makes as many pictures at once as the generator says."""

    lease = timedelta(minutes=2)

    def __init__(
        self, queue: str, generator: ImageGenerator, fetcher: ImageFetcher, store: PictureStore, *, memory: Memory
    ) -> None:
        self.queue = queue
        self.batch_size = generator.concurrency
        self._generator = generator
        self._fetcher = fetcher
        self._store = store
        self._memory = memory
        self._fetches = ThreadPoolExecutor(generator.concurrency, thread_name_prefix="fetch")
        self._makers = ThreadPoolExecutor(generator.concurrency, thread_name_prefix="make")

    def work(self, connection: Connection, jobs: Sequence[Job]) -> Iterator[list[Outcome]]:
        """Yields outcomes one by one, so that each transaction touches one entity only."""
        readable, unreadable = _read_entities(connection, jobs)
        yield from ([outcome] for outcome in unreadable)
        orders = read_orders(connection, readable)
        for order in orders:
            if not order.source_url.strip():
                order.settle(PictureState.FAILED, PermanentFailure("there is none: its URL is empty"))
        yield from ([order.outcome()] for order in orders if order.is_decided)
        if undecided := [order for order in orders if not order.is_decided]:
            self._store.probe()  # before anything is paid for
            yield from _Batch(self, connection, undecided).run()

    def prepare_write(self, connection: Connection) -> None:
        """Entities need no lock against each other."""

    def write(self, connection: Connection, outcomes: Sequence[Outcome]) -> None:
        """The rows are written already."""

    def forget(self, connection: Connection, job: Job) -> None:
        """The pictures of an earlier photo stay until new ones replace them: a shop shows them."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._fetches.shutdown(wait=False, cancel_futures=True)
        # A running request costs money, so its answer is stored before the provider's client closes.
        self._makers.shutdown(wait=True, cancel_futures=True)

    def fetch(self, url: str) -> "Future[Photo]":
        return self._fetches.submit(self._photo, url)

    def make(self, photo: Photo, picture: AskedPicture) -> "Future[StoredPicture]":
        return self._makers.submit(self._stored, photo, picture)

    def _photo(self, url: str) -> Photo:
        data = self._fetcher.fetch(url)
        return Photo(decode(data, memory=self._memory), hashlib.sha256(data).digest())

    def _stored(self, photo: Photo, picture: AskedPicture) -> StoredPicture:
        assert picture.prompt is not None
        model = self._generator.model
        made = self._generator.generate(photo.pixels, picture.image_type, picture.prompt, picture.order.forced_by)
        if made.media_type not in EXTENSIONS:
            raise TransientFailure(f"{model} gave a picture of the type {made.media_type}")
        url = self._store.put(made.data, EXTENSIONS[made.media_type])
        return StoredPicture(made, url, model, photo.content_hash)


def _read_entities(connection: Connection, jobs: Sequence[Job]) -> tuple[list[Job], list[Outcome]]:
    """The jobs whose entities can be read or are gone, and the outcomes of the others."""
    readable: list[Job] = []
    outcomes: list[Outcome] = []
    for source in {job.source for job in jobs}:
        group = [job for job in jobs if job.source == source]
        try:
            failures = read_each(connection, source, "entity", [job.key for job in group]).failures
        except SourceUnreadable as error:
            outcomes += [Outcome(job, must_wait=error) for job in group]
        else:
            readable += [job for job in group if job.key not in failures]
            outcomes += [Outcome(job, failure=failures[job.key]) for job in group if job.key in failures]
    return readable, outcomes


class _Batch:
    """Takes the pictures of some orders from WAITING to their final states."""

    def __init__(self, handler: GenerationHandler, connection: Connection, orders: Sequence[Order]) -> None:
        self._handler = handler
        self._connection = connection
        self._orders = orders
        self._running: Futures[Order | AskedPicture] = Futures()

    def run(self) -> Iterator[list[Outcome]]:
        photos = {url: self._handler.fetch(url) for url in {order.source_url for order in self._orders}}
        for order in self._orders:
            self._running.add(photos[order.source_url], order, paid=False)
        undecided = list(self._orders)
        try:
            for ended in self._running.ended(PATIENCE_SECONDS):
                for waiter, result in ended:
                    if isinstance(waiter, Order):
                        self._begin(waiter, result)
                    else:
                        self._finish(waiter, result)
                yield []
                for order in [order for order in undecided if order.is_decided]:
                    undecided.remove(order)
                    # after a stop the worker releases the other jobs without counting an attempt
                    if order.is_complete or not self._running.stopped:
                        yield [order.outcome()]
        finally:
            self._let_go()

    def _begin(self, order: Order, photo: Photo | JobFailure | None) -> None:
        if photo is None:
            order.settle(PictureState.STOPPED)
        elif isinstance(photo, JobFailure):
            order.settle(PictureState.FAILED, photo)
        else:
            try:
                keep_unchanged(self._connection, order, photo.content_hash)
            except GAVE_WAY:
                order.settle(PictureState.LOCK_BUSY, "its rows are locked")
            for picture in order.in_state(PictureState.WAITING):
                self._make(picture, photo)

    def _make(self, picture: AskedPicture, photo: Photo) -> None:
        if picture.prompt is None:
            picture.become(PictureState.FAILED, PermanentFailure("there is no such image type any more"))
        elif self._is_being_made(picture) or not lock_picture(self._connection, picture):
            picture.become(PictureState.LOCK_BUSY, "another worker is making it")
        elif is_missing(self._connection, picture):
            picture.become(PictureState.MAKING)
            self._running.add(self._handler.make(photo, picture), picture)
        else:
            unlock_picture(self._connection, picture)
            picture.become(PictureState.UNCHANGED)

    def _is_being_made(self, picture: AskedPicture) -> bool:
        """Whether another job of the batch makes it: Postgres would give this session the same lock twice."""
        name = picture.order.job.key, picture.image_type
        return name in {(other.order.job.key, other.image_type) for other in self._making()}

    def _finish(self, picture: AskedPicture, result: StoredPicture | JobFailure | None) -> None:
        try:
            if result is None:
                picture.become(PictureState.STOPPED)
            elif picture.order.in_state(PictureState.LOST):
                picture.become(PictureState.LOST)
            elif isinstance(result, JobFailure):
                picture.become(PictureState.FAILED, result)
            else:
                self._keep(picture, result)
        finally:
            with suppress(psycopg.OperationalError):
                unlock_picture(self._connection, picture)

    def _keep(self, picture: AskedPicture, stored: StoredPicture) -> None:
        try:
            saved = save_picture(self._connection, picture, stored)
        except GAVE_WAY:
            picture.become(PictureState.LOCK_BUSY, "its rows are locked")
        except psycopg.Error as error:
            if self._connection.closed:
                raise
            picture.become(PictureState.FAILED, TransientFailure(f"the database refuses its row: {error}"))
        else:
            picture.become(PictureState.KEPT if saved else PictureState.LOST)
            if not saved:
                self._lose(picture.order)

    def _lose(self, order: Order) -> None:
        """Its pictures that a thread makes already become LOST when they are made."""
        for picture in order.in_state(PictureState.MAKING):
            if self._running.cancel(picture):
                picture.become(PictureState.LOST)
                unlock_picture(self._connection, picture)

    def _making(self) -> list[AskedPicture]:
        return [picture for order in self._orders for picture in order.in_state(PictureState.MAKING)]

    def _let_go(self) -> None:
        """For a worker that gives up this batch. A session that is lost has no locks any more."""
        for picture in self._making():
            self._running.cancel(picture)
            with suppress(psycopg.Error):
                unlock_picture(self._connection, picture)
