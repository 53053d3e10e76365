"""One request to a provider: let through, made, judged, and written into the ledger."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Self

from matching_pipeline.errors import ConfigurationError, PermanentFailure, ProviderUnavailable
from matching_pipeline.providers.answer_cache import Answer
from matching_pipeline.providers.call_log import Call, CallLog, CallOutcome
from matching_pipeline.providers.openai.faults import BadRequest, Misfit, RateLimited, as_policy
from matching_pipeline.providers.openai.rate_limiter import Gate
from matching_pipeline.providers.single_flight import SingleFlight

if TYPE_CHECKING:
    import openai
    from openai._legacy_response import LegacyAPIResponse

MILLION = 1_000_000


@dataclass(frozen=True)
class Model:
    """`setting` is the one that names it; prices are in USD for a million tokens."""

    name: str
    setting: str
    input_price: Decimal
    output_price: Decimal = Decimal(0)

    def cost(self, input_tokens: int, output_tokens: int) -> Decimal:
        return (input_tokens * self.input_price + output_tokens * self.output_price) / MILLION


@dataclass
class Reply:
    """What came back: the decoded body, the tokens that it states, and the answers that it turned out to hold."""

    body: Any
    input_tokens: int
    output_tokens: int
    answers: dict[bytes, Answer] = field(default_factory=dict)


@dataclass(frozen=True)
class Question:
    """`answered_by` is the name under which its answers are kept."""

    model: Model
    answered_by: str
    items: int
    estimated_tokens: int
    ask: Callable[["openai.OpenAI"], "LegacyAPIResponse[Any]"]
    timeout_setting: str = "OPENAI_TIMEOUT_SECONDS"


class OpenAIClient:
    """Neither retries nor waits for a provider that is down: the queue does."""

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
            raise ConfigurationError("OPENAI_API_KEY: it has characters that no key has")
        if base_url is not None and not base_url.startswith(("http://", "https://")):
            raise ConfigurationError(f"OPENAI_BASE_URL: {base_url!r} is not an http:// or https:// address")
        # beyond the requests under way, others are made ready and answers are written
        self.threads = concurrency + 2
        self.single_flight = single_flight
        self._call_log = call_log
        self._gate = Gate(concurrency)
        try:
            self._api = openai.OpenAI(api_key=api_key, base_url=base_url, timeout=timeout, max_retries=0)
        except Exception as error:
            raise ConfigurationError(f"OPENAI_BASE_URL: {base_url!r}: {error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._gate.close()
        self._api.close()

    def send(self, question: Question, read: Callable[[Reply], None]) -> Reply:
        """Makes the request, `read`s the reply's answers, and records both.

        Raises what `faults` says of what went wrong, or what `read` raised; that is recorded as well.
        """
        self._call_log.require_budget()
        model = question.model
        with self._gate.passage(model.name, question.estimated_tokens):
            began = time.monotonic()
            reply, headers, failure = self._attempt(question, read)
            milliseconds = round((time.monotonic() - began) * 1000)
            self._gate.learn(model.name, question.estimated_tokens, headers)
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
        self, question: Question, read: Callable[[Reply], None]
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
            failure = as_policy(
                error,
                model=question.model.name,
                model_setting=question.model.setting,
                base_url=str(self._api.base_url),
                timeout_setting=question.timeout_setting,
            )
            if failure is not error:
                failure.__cause__ = error
            return reply, headers, failure
        return reply, headers, None


def _reply(content: bytes) -> Reply:
    try:
        body = json.loads(content)
        usage = body.get("usage") or {}
        # pictures are counted by other names
        read, written = (
            int(usage.get(name, usage.get(of_pictures, 0)))
            for name, of_pictures in (("prompt_tokens", "input_tokens"), ("completion_tokens", "output_tokens"))
        )
        return Reply(body, read, written)
    except (ValueError, TypeError, AttributeError) as error:
        raise Misfit(f"{type(error).__name__}: {error}") from error


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
        case BadRequest() | PermanentFailure():
            return "refused"
        case _:
            return "unusable"
