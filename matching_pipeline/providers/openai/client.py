"""One request to a provider: admitted, made, judged, and recorded in the call log."""

import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Self

from matching_pipeline.errors import ConfigurationError, JobFailure, PermanentFailure, ProviderUnavailable
from matching_pipeline.providers.answer_cache import Answer
from matching_pipeline.providers.call_log import Call, CallLog, CallOutcome
from matching_pipeline.providers.openai.faults import (
    SETTINGS,
    Doubtful,
    InputRefused,
    MalformedResponse,
    OptionRefused,
    RateLimited,
    policy_for,
)
from matching_pipeline.providers.openai.health import Health
from matching_pipeline.providers.openai.prices import PricedModel
from matching_pipeline.providers.openai.rate_limiter import RateLimiter
from matching_pipeline.providers.openai.stated import require_no_error
from matching_pipeline.providers.single_flight import AnswersByHash, SingleFlight

if TYPE_CHECKING:
    import httpx2
    import openai

Options = Mapping[str, Any]
Replace = Callable[[Any], Options]
REPLACED: Mapping[str, Replace] = {
    "encoding_format": lambda value: {} if value == "float" else {"encoding_format": "float"},
    "max_completion_tokens": lambda value: {"max_tokens": value},
    "dimensions": lambda value: {},
    "reasoning_effort": lambda value: {},
}
"""The options of a request that a server may not know, and what is sent instead."""

log = logging.getLogger(__name__)


@dataclass
class Reply:
    """The decoded body, the tokens that it states, and the answers that were read from it."""

    body: Any
    input_tokens: int
    output_tokens: int
    answers: dict[bytes, Answer] = field(default_factory=dict)


@dataclass(frozen=True)
class Question:
    """A request to make. `items` is the number of its inputs; the cache keeps its answers under `answered_by`.

    The rate limiter counts the estimated tokens. The budget reserves the most that there can be, input and output.
    """

    model: PricedModel
    operation: Literal["embeddings", "chat", "image", "probe"]
    answered_by: str
    estimated_tokens: int
    most_tokens: tuple[int, int]
    ask: Callable[["openai.OpenAI", Options], "httpx2.Response"]
    items: int = 1
    options: Options = field(default_factory=dict)
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
        self.health = Health()
        self._call_log = call_log
        self._limiter = RateLimiter(concurrency)
        self._replaced: dict[tuple[str, str], Options] = {}
        """Options to send instead of one that the server does not know, by model and option."""
        try:
            self._api = openai.OpenAI(api_key=api_key, base_url=base_url, timeout=timeout, max_retries=0)
        except Exception as error:
            raise ConfigurationError(f"OPENAI_BASE_URL: {base_url!r}: {error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._limiter.close()
        self._api.close()

    def answer(
        self, question: Question, input_hash: bytes, read: Callable[[Any], bytes], probe: Callable[[Doubtful], object]
    ) -> Answer:
        """The answer about one picture, asked for once; `read` takes it from the decoded body.

        `probe` makes another request, if only that can tell whether the picture or the provider is at fault.
        """

        def ask(missing: list[bytes]) -> AnswersByHash:
            try:
                return {**self.send(question, put).answers}
            except JobFailure as failure:
                return {input_hash: failure}
            except Doubtful as doubt:
                self.health.require(question.model.name, time.monotonic(), doubt, partial(probe, doubt))
                refused = f"{question.model.name} refuses the picture: " if isinstance(doubt, InputRefused) else ""
                return {input_hash: doubt.if_alone(f"{refused}{doubt}")}

        def put(reply: Reply) -> None:
            reply.answers[input_hash] = Answer(read(reply.body), reply.input_tokens, reply.output_tokens)

        answer = self.single_flight.answers(question.answered_by, [input_hash], ask)[input_hash]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def send(self, question: Question, read: Callable[[Reply], object]) -> Reply:
        """Makes the request, has `read` put the answers into the reply, and records both.

        Records a failure too, and raises it: one of `read`, or the policy for a fault of the provider. An option that
        the server does not know is replaced, and the request made again.
        """
        while True:
            options = self._options(question)
            try:
                return self._send(question, options, read)
            except OptionRefused as refused:
                self._replace(question.model.name, refused, options)

    def _send(self, question: Question, options: Options, read: Callable[[Reply], object]) -> Reply:
        model = question.model
        with self._limiter.admit(model.name, question.estimated_tokens):
            reservation = self._call_log.reserve(model.cost(*question.most_tokens))
            began = time.monotonic()
            reply, headers, failure = self._attempt(question, options, read)
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
                operation=question.operation,
                error=None if failure is None else str(failure) or type(failure).__name__,
            ),
            question.answered_by,
            reply.answers,
            reservation,
        )
        if failure is not None:
            raise failure
        self.health.passed(model.name)
        return reply

    def _attempt(
        self, question: Question, options: Options, read: Callable[[Reply], object]
    ) -> tuple[Reply, Mapping[str, str], Exception | None]:
        reply = Reply(None, 0, 0)
        headers: Mapping[str, str] = {}
        try:
            response = question.ask(self._api, options)
            headers = response.headers
            reply = _reply(response.content, headers, question.estimated_tokens)
            read(reply)
        except Exception as error:
            headers = getattr(getattr(error, "response", None), "headers", headers)
            failure = policy_for(error, question.model, str(self._api.base_url), question.timeout_setting)
            if failure is not error:
                failure.__cause__ = error
            return reply, headers, failure
        return reply, headers, None

    def _options(self, question: Question) -> Options:
        options: dict[str, Any] = {}
        for option, value in question.options.items():
            options |= self._replaced.get((question.model.name, option), {option: value})
        return options

    def _replace(self, model: str, refused: OptionRefused, options: Options) -> None:
        """Raises if nothing can be sent instead of the option, or it was not sent."""
        option = refused.option
        if option not in options:
            raise refused.refusal
        if option not in REPLACED:
            setting = SETTINGS.get(option)
            raise ConfigurationError(f"{setting}: {refused}") if setting else refused.refusal.if_all_fail
        instead = REPLACED[option](options[option])
        if (model, option) not in self._replaced:
            said = ", ".join(f"{name}={value}" for name, value in instead.items()) or "nothing"
            hint = f"; {SETTINGS[option]} has no effect" if option in SETTINGS else ""
            log.warning("%s does not take %s: requests send %s instead%s: %s", model, option, said, hint, refused)
        self._replaced[model, option] = instead


def _reply(content: bytes, headers: Mapping[str, str], estimated_tokens: int) -> Reply:
    """An answer without the number of its input's tokens counts as estimated: the budget needs a figure."""
    try:
        body = json.loads(content)
        require_no_error(body, headers)
        usage = body.get("usage") or {}
        # the image models count by other names
        read = _first(usage, "prompt_tokens", "input_tokens", "total_tokens")
        written = _first(usage, "completion_tokens", "output_tokens")
        if read is None:
            read = estimated_tokens if body.get("data") or body.get("choices") else 0
        return Reply(body, read, written or 0)
    except (ValueError, TypeError, AttributeError) as error:
        raise MalformedResponse(f"{type(error).__name__}: {error}") from error


def _first(usage: Mapping[str, Any], *names: str) -> int | None:
    counts = (usage.get(name) for name in names)
    return next((max(int(count), 0) for count in counts if count is not None), None)


def _outcome(failure: Exception | None) -> CallOutcome:
    if isinstance(failure, Doubtful) and not isinstance(failure, InputRefused):
        failure = failure.if_all_fail
    match failure:
        case None:
            return "answered"
        case RateLimited():
            return "rate limit"
        case ProviderUnavailable():
            return "unavailable"
        case ConfigurationError():
            return "configuration"
        case InputRefused() | PermanentFailure() | OptionRefused():
            return "refused"
        case _:
            return "unusable"
