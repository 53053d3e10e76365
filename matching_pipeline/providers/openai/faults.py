"""The faults of requests, and the one policy for each. `docs/providers.md` has the table."""

import re
from datetime import timedelta
from typing import TYPE_CHECKING

from matching_pipeline.errors import (
    ConfigurationError,
    JobFailure,
    PermanentFailure,
    ProviderUnavailable,
    TransientFailure,
)
from matching_pipeline.providers.openai.prices import PricedModel
from matching_pipeline.providers.openai.stated import Stated, StatedFault, pause, stated_by, stated_pause

if TYPE_CHECKING:
    import openai

DOWN_PAUSE = timedelta(seconds=30)
QUOTA_PAUSE = timedelta(hours=1)

OUT_OF_QUOTA = {
    "insufficient_quota",
    "billing_hard_limit_reached",
    "billing_not_active",
    "budget_exceeded",
    "insufficient_balance",
    "insufficient_credits",
}
FILTERED = {
    "content_filter",
    "content_policy_violation",
    "image_content_policy_violation",
    "invalid_prompt",
    "moderation_blocked",
}
TOO_LONG_CODES = {"context_length_exceeded", "exceed_context_size_error"}
SETTINGS = {
    "dimensions": "OPENAI_EMBEDDING_DIMENSIONS",
    "reasoning_effort": "OPENAI_VISION_REASONING_EFFORT",
    "quality": "OPENAI_IMAGE_QUALITY",
}
"""The setting behind a parameter of a request."""
UNFIT_CODES = {"unsupported_parameter", "unsupported_value", "invalid_json_schema", "unknown_parameter"}
UNFIT_PARAMETERS = {"model", "size", "output_format", "input_fidelity", "response_format"}

# the words of OpenAI, LiteLLM, Ollama, text-embeddings-inference, llama.cpp, vLLM, Azure and DashScope
_OUT_OF_BUDGET = re.compile(r"budget has been exceeded|exceeded ?budget|over budget|crossed budget")
_TOO_LONG = re.compile(
    r"maximum context length|maximum input length|exceeds the (?:maximum )?context length|too large to process"
    r"|exceeds the available context size|too big compared to kv size|must have less than \d+ tokens"
    r"|range of input length"
)
_TOO_LARGE = re.compile(r"request too large|tokens per request|length limit exceeded|(?:payload|entity) too large")
_TOO_MANY = re.compile(
    r"(?:batch size|inputs|array|texts|items)\b.*?"
    r"(?:larger than|more than|at most|maximum length|limit\w*|up to)\D{0,20}(\d+)"
    r"|max(?:imum)?\b\D{0,30}(?:inputs|items|texts|batch size)\D{0,15}(\d+)",
    re.DOTALL,
)
_BAD_KEY = re.compile(r"api key (?:not valid|is invalid|is missing)|(?:invalid|incorrect|missing) api key")
_BAD_VALUE = re.compile(r"(?:unsupported|invalid) value|must be (?:less|greater|one of|between)|matryoshka dimension")
OPTION_WORDS = {
    "encoding_format": re.compile(r"encoding_format|base64"),
    "reasoning_effort": re.compile(r"reasoning[_. ]effort"),
    "max_completion_tokens": re.compile(r"max_completion_tokens"),
    "dimensions": re.compile(r"\bdimensions\b|matryoshka"),
    "quality": re.compile(r"\bquality\b"),
}
"""Words by which a message mentions an option of the request, for servers that do not name the parameter."""


class RateLimited(ProviderUnavailable):
    """The provider is up, but refuses requests for now: there were too many, or the quota is used up."""


class Doubtful(Exception):
    """Either one input of the request is at fault or the provider is. Other requests show which.

    If they succeed, the input that fails by itself gets a failure of the class `if_alone`. If they fail too,
    `if_all_fail` is raised.
    """

    def __init__(self, message: str, if_alone: type[JobFailure], if_all_fail: Exception) -> None:
        super().__init__(message)
        self.if_alone = if_alone
        self.if_all_fail = if_all_fail


class RequestFailed(Doubtful):
    """The server failed, was cut off, or gave an answer that cannot be used."""

    def __init__(self, message: str, if_all_fail: Exception) -> None:
        super().__init__(message, TransientFailure, if_all_fail)


class InputRefused(Doubtful):
    """The server refuses one of the request's inputs, or requests of this form."""

    def __init__(self, message: str, if_all_fail: Exception) -> None:
        super().__init__(message, PermanentFailure, if_all_fail)


class RequestTooLarge(InputRefused):
    """The request has more tokens or inputs than one may have. `most_items` is the limit of inputs, if the server
    states it."""

    most_items: int | None = None


class InputTooLong(InputRefused):
    """One input has more tokens than the model takes."""


class OptionRefused(Exception):
    """The server does not know an option of the request, or not this value of it."""

    def __init__(self, option: str, refusal: InputRefused) -> None:
        super().__init__(str(refusal))
        self.option = option
        self.refusal = refusal


class MalformedResponse(Exception):
    """The response is not of the protocol's form."""


def policy_for(error: Exception, model: PricedModel, base_url: str, timeout_setting: str) -> Exception:
    """Translates an exception of a request, or of reading its answer, into the one to raise.

    It returns an exception that it does not know unchanged.
    """
    import openai

    match error:
        case openai.APIStatusError():
            return _policy(stated_by(error.response), model, base_url)
        case StatedFault(stated=stated):
            return _policy(stated, model, base_url)
        case openai.APITimeoutError():
            message = f"{base_url} did not answer within {timeout_setting}"
            down = ProviderUnavailable(message, DOWN_PAUSE)
            return down if _never_sent(error) else RequestFailed(message, down)
        case openai.APIConnectionError():
            reason = error.__cause__ or error
            message = f"no answer from {base_url}: {type(reason).__name__}: {reason}"
            down = ProviderUnavailable(message, DOWN_PAUSE)
            return down if _never_sent(error) else RequestFailed(message, down)
        case MalformedResponse():
            message = f"{base_url} gave an answer that is not of OpenAI's form: {error}"
            return RequestFailed(message, ProviderUnavailable(message, DOWN_PAUSE))
    return error


def _never_sent(error: "openai.APIConnectionError") -> bool:
    """Whether no connection was made. Then no input can be the reason."""
    return type(error.__cause__).__name__ in {"ConnectError", "ConnectTimeout", "PoolTimeout", "UnsupportedProtocol"}


def _policy(stated: Stated, model: PricedModel, base_url: str) -> Exception:
    """Looks at codes and words first, since servers that nearly speak the protocol choose other statuses."""
    message, said, names = stated.message, stated.message.lower(), {stated.code, stated.type}
    if FILTERED & names:
        return PermanentFailure(f"{model.name} refuses it: {message}")
    if OUT_OF_QUOTA & names or stated.status == 402 or _OUT_OF_BUDGET.search(said):
        return RateLimited(f"the provider's quota is used up. Look at your billing there: {message}", QUOTA_PAUSE)
    if too_much := _too_much(stated, model):
        return too_much
    match stated.status:
        case 429:
            return RateLimited(f"rate limit: {message}", pause(stated.headers))
        case 401:
            return ConfigurationError(f"OPENAI_API_KEY: the provider refuses it: {message}")
        case 403:
            key = f"OPENAI_API_KEY: this key may not use {model.name} so: {message}"
            return RequestFailed(f"the provider forbids it: {message}", ConfigurationError(key))
        case 404 if stated.code == "model_not_found" or model.name in message:
            return ConfigurationError(f"{model.setting}: the provider has no model {model.name}: {message}")
        case 404:
            return ConfigurationError(f"OPENAI_BASE_URL: {base_url} does not speak OpenAI's protocol: {message}")
        case 400 | 405 | 406 | 409 | 410 | 411 | 415 | 422:
            return _refusal(stated, model)
    message = f"the provider fails: {message}"
    if retry_after := stated_pause(stated.headers):
        return ProviderUnavailable(message, retry_after)
    return RequestFailed(message, ProviderUnavailable(message, DOWN_PAUSE))


def _too_much(stated: Stated, model: PricedModel) -> InputRefused | None:
    said, unfit = stated.message.lower(), _unfit(stated, model)
    if stated.code in TOO_LONG_CODES or stated.type in TOO_LONG_CODES or _TOO_LONG.search(said):
        too_long = InputTooLong(stated.message, unfit)
        if stated.status >= 500:
            too_long.if_alone = TransientFailure
            too_long.if_all_fail = ProviderUnavailable(stated.message, DOWN_PAUSE)
        return too_long
    most = _TOO_MANY.search(said) if stated.status in (400, 413, 422) else None
    if most or stated.code == "max_tokens_per_request" or stated.status == 413 or _TOO_LARGE.search(said):
        too_large = RequestTooLarge(stated.message, unfit)
        too_large.most_items = int(most[1] or most[2]) if most else None
        return too_large
    return None


def _refusal(stated: Stated, model: PricedModel) -> Exception:
    """The policy for a bad request: either the server refuses an input, or the request itself is wrong."""
    said, unfit = stated.message.lower(), _unfit(stated, model)
    if _BAD_KEY.search(said):
        return ConfigurationError(f"OPENAI_API_KEY: the provider refuses it: {stated.message}")
    option = stated.parameter or next((name for name, words in OPTION_WORDS.items() if words.search(said)), "")
    if option in OPTION_WORDS and not (option == "dimensions" and "image" in said):
        if stated.code != "unsupported_value" and not _BAD_VALUE.search(said):
            return OptionRefused(option, InputRefused(stated.message, unfit))
        if setting := SETTINGS.get(option):
            return ConfigurationError(f"{setting}: {stated.message}")
    # each request would be refused for this, so that dividing this one would not help
    if stated.code in UNFIT_CODES or stated.parameter in UNFIT_PARAMETERS:
        return unfit
    return InputRefused(stated.message, unfit)


def _unfit(stated: Stated, model: PricedModel) -> ConfigurationError:
    return ConfigurationError(f"{model.setting}: {model.name} takes no request of this form: {stated.message}")
