"""One request to a provider: admitted, made, judged, and recorded in the call log."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from matching_pipeline.errors import ConfigurationError, JobFailure, PermanentFailure, ProviderUnavailable
from matching_pipeline.providers.answer_cache import Answer
from matching_pipeline.providers.call_log import Call, CallLog, CallOutcome
from matching_pipeline.providers.openai.faults import InputRefused, MalformedResponse, RateLimited, policy_for
from matching_pipeline.providers.openai.prices import PricedModel
from matching_pipeline.providers.openai.rate_limiter import RateLimiter
from matching_pipeline.providers.single_flight import AnswersByHash, SingleFlight

if TYPE_CHECKING:
    import openai
    from openai._legacy_response import LegacyAPIResponse


@dataclass
class Reply:
    """The decoded body, the tokens that it states, and the answers that were read from it."""

    body: Any
    input_tokens: int
    output_tokens: int
    answers: dict[bytes, Answer] = field(default_factory=dict)


@dataclass(frozen=True)
class Question:
    """A request to make. `items` is the number of its inputs; the cache keeps its answers under `answered_by`."""

    model: PricedModel
    answered_by: str
    estimated_tokens: int
    ask: Callable[["openai.OpenAI"], "LegacyAPIResponse[Any]"]
    items: int = 1
    timeout_setting: str = "OPENAI_TIMEOUT_SECONDS"


class OpenAIClient:
    """Neither retries nor waits for a provider that is down: the queue does that. Threads may share it."""

    def __init__(
        self,
        api_key: str,
        base_url: str | None,
        timeout: float,
        concurrency: int,
        call_log: CallLog,
        single_flight: SingleFlight,
    ) -> None:
        import openai

        if not (api_key.isascii() and api_key.isprintable() and " " not in api_key):
            raise ConfigurationError("OPENAI_API_KEY: it has characters that cannot be in a key")
        if base_url is not None and not base_url.startswith(("http://", "https://")):
            raise ConfigurationError(f"OPENAI_BASE_URL: {base_url!r} is not an http:// or https:// address")
        # two more than the requests under way: some threads prepare requests and write answers
        self.threads = concurrency + 2
        self.single_flight = single_flight
        self._call_log = call_log
        self._limiter = RateLimiter(concurrency)
        try:
            self._api = openai.OpenAI(api_key=api_key, base_url=base_url, timeout=timeout, max_retries=0)
        except Exception as error:
            raise ConfigurationError(f"OPENAI_BASE_URL: {base_url!r}: {error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._limiter.close()
        self._api.close()

    def answer(self, question: Question, input_hash: bytes, read: Callable[[Any], bytes]) -> Answer:
        """The answer about one picture, asked for once; `read` takes it from the decoded body."""

        def ask(missing: list[bytes]) -> AnswersByHash:
            try:
                return {**self.send(question, put).answers}
            except JobFailure as failure:
                return {input_hash: failure}
            except InputRefused as error:
                return {input_hash: PermanentFailure(f"{question.model.name} refuses the picture: {error}")}

        def put(reply: Reply) -> None:
            reply.answers[input_hash] = Answer(read(reply.body), reply.input_tokens, reply.output_tokens)

        answer = self.single_flight.answers(question.answered_by, [input_hash], ask)[input_hash]
        if isinstance(answer, JobFailure):
            raise answer
        return answer

    def send(self, question: Question, read: Callable[[Reply], object]) -> Reply:
        """Makes the request, has `read` put the answers into the reply, and records both.

        Records a failure too, and raises it: one of `read`, or the policy for a fault of the provider.
        """
        self._call_log.require_budget()
        model = question.model
        with self._limiter.admit(model.name, question.estimated_tokens):
            began = time.monotonic()
            reply, headers, failure = self._attempt(question, read)
            milliseconds = round((time.monotonic() - began) * 1000)
            self._limiter.learn(model.name, question.estimated_tokens, headers)
        self._call_log.record(
            Call(
                model=model.name,
                items=question.items,
                milliseconds=milliseconds,
                outcome=_outcome(failure),
                input_tokens=reply.input_tokens,
                output_tokens=reply.output_tokens,
                cost_usd=model.cost(reply.input_tokens, reply.output_tokens),
                request_id=headers.get("x-request-id"),
                error=None if failure is None else str(failure) or type(failure).__name__,
            ),
            question.answered_by,
            reply.answers,
        )
        if failure is not None:
            raise failure
        return reply

    def _attempt(
        self, question: Question, read: Callable[[Reply], object]
    ) -> tuple[Reply, Mapping[str, str], Exception | None]:
        reply = Reply(None, 0, 0)
        headers: Mapping[str, str] = {}
        try:
            response = question.ask(self._api).http_response
            headers = response.headers
            reply = _reply(response.content)
            read(reply)
        except Exception as error:
            headers = getattr(getattr(error, "response", None), "headers", headers)
            failure = policy_for(error, question.model, str(self._api.base_url), question.timeout_setting)
            if failure is not error:
                failure.__cause__ = error
            return reply, headers, failure
        return reply, headers, None


def _reply(content: bytes) -> Reply:
    try:
        body = json.loads(content)
        usage = body.get("usage") or {}
        # the image models count by other names
        read, written = (
            int(usage.get(name, usage.get(of_pictures, 0)))
            for name, of_pictures in (("prompt_tokens", "input_tokens"), ("completion_tokens", "output_tokens"))
        )
        return Reply(body, read, written)
    except (ValueError, TypeError, AttributeError) as error:
        raise MalformedResponse(f"{type(error).__name__}: {error}") from error


def _outcome(failure: Exception | None) -> CallOutcome:
    match failure:
        case None:
            return "answered"
        case RateLimited():
            return "rate limit"
        case ProviderUnavailable():
            return "unavailable"
        case ConfigurationError():
            return "configuration"
        case InputRefused() | PermanentFailure():
            return "refused"
        case _:
            return "unusable"
