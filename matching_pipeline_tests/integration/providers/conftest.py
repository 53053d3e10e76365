"""Clients of the stand-in server, with a call log on a real database."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from decimal import Decimal
from typing import Any, TypeVar

import pytest

from matching_pipeline.db.connections import Connection
from matching_pipeline.errors import ProviderUnavailable
from matching_pipeline.providers.answer_cache import Answer, AnswerCache
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
OpenAsker = Callable[[], "Asker"]
OpenClient = Callable[..., OpenAIClient]
OpenEmbedder = Callable[..., OpenAITextEmbedder]
OpenAnalyzer = Callable[..., OpenAIImageAnalyzer]
OpenGenerator = Callable[..., OpenAIImageGenerator]

OF_THE_PROVIDER = (
    pytest.param(rate_limit(retry_after="3"), ProviderUnavailable, "rate limit", 0, id="429"),
    pytest.param(out_of_quota(), ProviderUnavailable, "billing", 0, id="quota"),
    pytest.param(server_error(503), ProviderUnavailable, "overloaded", 0, id="503"),
    pytest.param(Fault(cut_after=20), ProviderUnavailable, "no answer", 0, id="reset"),
)
"""Faults that have nothing to do with what is asked: fault, failure, reason, how many requests cost something."""


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with openai_server() as server:
        yield server


@pytest.fixture
def settings_for(server: OpenAIServer) -> Callable[..., Settings]:
    """Settings for the stand-in, the named ones changed."""
    return lambda **changes: Settings(
        **{"openai_api_key": KEY, "openai_base_url": server.url, "openai_timeout_seconds": 10, **changes}
    )


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


class Asker:
    """What a client of one process has: call log, answer cache and single flight on one session."""

    def __init__(self, session: ReconnectingSession) -> None:
        self.cache = AnswerCache(session)
        self.answers = SingleFlight(session, self.cache).answers
        self._call_log = CallLog(session, self.cache, "queue")

    def record(self, **answers: bytes) -> None:
        """A request to the model `m`, and its answers."""
        kept = {name.encode(): Answer(content, 1, 0) for name, content in answers.items()}
        self._call_log.record(Call("m", 1, 5, "answered", cost_usd=Decimal("0.5")), "m", kept)


@pytest.fixture
def open_asker(database_url: str, stack: ExitStack) -> OpenAsker:
    return lambda: Asker(stack.enter_context(ReconnectingSession(database_url)))


@pytest.fixture
def open_embedder(settings_for: Callable[..., Settings], database_url: str, stack: ExitStack) -> OpenEmbedder:
    def embedder(**changes: Any) -> OpenAITextEmbedder:
        settings = settings_for(**changes)
        return openai_text_embedder(settings, stack.enter_context(openai_client(settings, database_url, "postings")))

    return embedder


@pytest.fixture
def open_analyzer(settings_for: Callable[..., Settings], database_url: str, stack: ExitStack) -> OpenAnalyzer:
    def analyzer(**changes: Any) -> OpenAIImageAnalyzer:
        settings = settings_for(**changes)
        return openai_image_analyzer(settings, stack.enter_context(openai_client(settings, database_url, "image_ai")))

    return analyzer


@pytest.fixture
def open_generator(settings_for: Callable[..., Settings], database_url: str, stack: ExitStack) -> OpenGenerator:
    def generator(**changes: Any) -> OpenAIImageGenerator:
        settings = settings_for(**changes)
        client = stack.enter_context(openai_client(settings, database_url, "generated_images"))
        return openai_image_generator(settings, client)

    return generator


def calls(connection: Connection) -> list[tuple[str, int]]:
    """Outcome and number of inputs of each request in the call log, in order."""
    return connection.execute("select outcome, items from ai_calls order by id").fetchall()


def charged(connection: Connection) -> int:
    """How many requests cost something."""
    return int(connection.execute("select count(*) from ai_calls where cost_usd > 0").fetchall()[0][0])


def fails_once(
    server: OpenAIServer,
    connection: Connection,
    fault: Fault,
    failure: type[Exception],
    reason: str,
    costs: int,
    ask: Callable[[], Result],
) -> Result:
    """The fault costs one request, and nothing of its answer is kept; returns the answer that follows it."""
    server.faults.append(fault)
    with pytest.raises(failure, match=reason):
        ask()
    assert server.asked.total() == len(calls(connection)) == 1
    assert charged(connection) == costs
    assert connection.execute("select count(*) from ai_answers").fetchone() == (0,)
    return ask()
