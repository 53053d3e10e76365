"""Clients of the stand-in server, with a call log on a real database."""

import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from decimal import Decimal
from typing import Any, TypeVar

import pytest

from matching_pipeline.db.connections import Connection
from matching_pipeline.errors import ProviderUnavailable, TransientFailure
from matching_pipeline.providers.answer_cache import Answer, AnswerCache
from matching_pipeline.providers.budget import Budget
from matching_pipeline.providers.call_log import Call, CallLog
from matching_pipeline.providers.factory import (
    openai_client,
    openai_image_analyzer,
    openai_image_generator,
    openai_text_embedder,
)
from matching_pipeline.providers.openai.client import OpenAIClient
from matching_pipeline.providers.openai.embeddings import OpenAITextEmbedder
from matching_pipeline.providers.openai.pictures import OpenAIImageGenerator
from matching_pipeline.providers.openai.vision import OpenAIImageAnalyzer
from matching_pipeline.providers.session import ReconnectingSession
from matching_pipeline.providers.single_flight import SingleFlight
from matching_pipeline.settings import Settings
from matching_pipeline_tests.fixtures.openai_server import (
    KEY,
    Fault,
    OpenAIServer,
    openai_server,
    out_of_quota,
    rate_limit,
    server_error,
)

Result = TypeVar("Result")
FailsOnce = Callable[..., Any]
OpenAsker = Callable[[], "Asker"]
OpenEmbedder = Callable[..., OpenAITextEmbedder]
OpenAnalyzer = Callable[..., OpenAIImageAnalyzer]
OpenGenerator = Callable[..., OpenAIImageGenerator]

PROVIDER_FAULTS = (
    pytest.param(rate_limit(retry_after="3"), ProviderUnavailable, "rate limit", 0, id="429"),
    pytest.param(out_of_quota(), ProviderUnavailable, "billing", 0, id="quota"),
    pytest.param(server_error(503, retry_after="5"), ProviderUnavailable, "overloaded", 0, id="503 for a while"),
    pytest.param(server_error(503), TransientFailure, "overloaded", 0, id="503"),
    pytest.param(Fault(cut_after=20), TransientFailure, "no answer", 0, id="reset"),
)
"""A fault of one request: failure, reason, number of requests that cost something, without the probe that follows."""


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with openai_server() as server:
        yield server


@pytest.fixture
def settings_for(server: OpenAIServer) -> Callable[..., Settings]:
    """Settings for the stand-in, with changes."""
    return lambda **changes: Settings(
        **{"openai_api_key": KEY, "openai_base_url": server.url, "openai_timeout_seconds": 10, **changes}
    )


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


class Asker:
    """Call log, answer cache and single flight on one session, as the client of one process has them."""

    def __init__(self, session: ReconnectingSession, asker: int) -> None:
        self.cache = AnswerCache(session)
        self.answers = SingleFlight(session, self.cache, asker).answers
        self._call_log = CallLog(session, self.cache, "queue", Budget(session))

    def record(self, **answers: bytes) -> None:
        """A request to the model `m`, and its answers."""
        kept = {name.encode(): Answer(content, 1, 0) for name, content in answers.items()}
        self._call_log.record(Call("m", 1, 5, "answered", cost_usd=Decimal("0.5")), "m", kept)


@pytest.fixture
def open_asker(database_url: str, stack: ExitStack) -> OpenAsker:
    """Each as if in a process of its own."""
    numbers = itertools.count(1)
    return lambda: Asker(stack.enter_context(ReconnectingSession(database_url)), next(numbers))


def _opens(queue: str, make: Callable[[Settings, OpenAIClient], Result]) -> Callable[..., Callable[..., Result]]:
    @pytest.fixture
    def open_provider(
        settings_for: Callable[..., Settings], database_url: str, stack: ExitStack
    ) -> Callable[..., Result]:
        def open_by(**changes: Any) -> Result:
            settings = settings_for(**changes)
            return make(settings, stack.enter_context(openai_client(settings, database_url, queue)))

        return open_by

    return open_provider


open_embedder = _opens("postings", openai_text_embedder)
open_analyzer = _opens("image_ai", openai_image_analyzer)
open_generator = _opens("generated_images", openai_image_generator)


def calls(connection: Connection) -> list[tuple[str, int]]:
    """Outcome and number of inputs of each request in the call log, in order."""
    return connection.execute("select outcome, items from matching_pipeline.ai_calls order by id").fetchall()


def charged(connection: Connection) -> int:
    """The number of requests that cost something."""
    rows = connection.execute("select id from matching_pipeline.ai_calls where cost_usd > 0").fetchall()
    return len(rows)


@pytest.fixture
def fails_once(server: OpenAIServer, connection: Connection) -> FailsOnce:
    """Asks with a fault, after which nothing is kept; returns the answer to the next request.

    Where the fault may be of the input or of the provider, a probe follows.
    """

    def fails_once(fault: Fault, failure: type[Exception], reason: str, costs: int, ask: Callable[[], Any]) -> Any:
        server.faults.append(fault)
        with pytest.raises(failure, match=reason):
            ask()
        assert server.asked.total() == len(calls(connection)) <= 2
        ((paid,),) = connection.execute(
            "select count(*) filter (where cost_usd > 0) "
            "from (select cost_usd from matching_pipeline.ai_calls order by id limit 1) as first"
        ).fetchall()
        assert paid == costs
        assert connection.execute("select count(*) from matching_pipeline.ai_answers").fetchone() == (0,)
        return ask()

    return fails_once


@pytest.fixture
def run_killed(server: OpenAIServer, database_url: str) -> Callable[..., None]:
    """Runs a script that kills itself, with these settings besides those of the stand-in."""

    def run_killed(script: str, **environment: str) -> None:
        provider = {"DATABASE_URL": database_url, "OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": server.url}
        environment = {**os.environ, **provider, "IMAGE_ALLOW_PRIVATE_HOSTS": "true", **environment}
        killed = subprocess.run([sys.executable, "-c", script], env=environment, check=False)
        assert killed.returncode == -signal.SIGKILL

    return run_killed
