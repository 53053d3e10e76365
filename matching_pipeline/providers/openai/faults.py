"""The faults of requests, and the one policy for each."""

import re
import time
from collections.abc import Mapping
from datetime import timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from matching_pipeline.errors import ConfigurationError, PermanentFailure, ProviderUnavailable
from matching_pipeline.providers.openai.prices import PricedModel

if TYPE_CHECKING:
    import openai

RATE_LIMIT_PAUSE = timedelta(seconds=20)
"""For a rate limit that states no time, or a time that is over."""
DOWN_PAUSE = timedelta(seconds=30)
QUOTA_PAUSE = timedelta(hours=1)
LONGEST_PAUSE = timedelta(hours=1)

OUT_OF_QUOTA = {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"}
FILTERED = {
    "content_filter",
    "content_policy_violation",
    "image_content_policy_violation",
    "invalid_prompt",
    "moderation_blocked",
}
SETTINGS = {
    "dimensions": "OPENAI_EMBEDDING_DIMENSIONS",
    "reasoning_effort": "OPENAI_VISION_REASONING_EFFORT",
    "quality": "OPENAI_IMAGE_QUALITY",
}
"""The setting behind a parameter of a request."""
UNFIT_CODES = {"unsupported_parameter", "unsupported_value", "invalid_json_schema", "unknown_parameter"}
UNFIT_PARAMETERS = {"model", "size", "output_format", "input_fidelity"}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|h|m|s|)")
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001, "": 1.0}


class RateLimited(ProviderUnavailable):
    """The provider is up, and wants fewer requests."""


class InputRefused(Exception):
    """The server refuses one of the request's inputs; the others may pass without it."""


class RequestTooLarge(InputRefused):
    """The request has more tokens than one request may have."""


class InputTooLong(InputRefused):
    """One input has more tokens than the model takes."""


class MalformedResponse(Exception):
    """The response is not of the protocol's form."""


def policy_for(error: Exception, model: PricedModel, base_url: str, timeout_setting: str) -> Exception:
    """The exception to raise for one that OpenAI's client raised, or for a MalformedResponse; else the same."""
    import openai

    match error:
        case openai.APIStatusError(status_code=400 | 413 | 422):
            return _refusal(error, model)
        case openai.RateLimitError() if "request too large" in error.message.lower():
            return RequestTooLarge(error.message)
        case openai.RateLimitError() if OUT_OF_QUOTA & {error.code, error.type}:
            return _out_of_quota(error)
        case openai.RateLimitError():
            return RateLimited(f"rate limit: {error.message}", pause(error.response.headers))
        case openai.AuthenticationError():
            return ConfigurationError(f"OPENAI_API_KEY: the provider refuses it: {error.message}")
        case openai.PermissionDeniedError():
            return ConfigurationError(f"OPENAI_API_KEY: it may not do this with {model.name}: {error.message}")
        case openai.NotFoundError() if error.code == "model_not_found" or model.name in error.message:
            return ConfigurationError(f"{model.setting}: the provider has no model {model.name}: {error.message}")
        case openai.NotFoundError():
            return ConfigurationError(
                f"OPENAI_BASE_URL: {base_url} does not speak OpenAI's protocol: {error.message}"
            )
        case openai.APIStatusError():
            seconds = pause(error.response.headers, default=DOWN_PAUSE)
            return ProviderUnavailable(f"the provider fails: {error.message}", seconds)
        case openai.APITimeoutError():
            return ProviderUnavailable(f"{base_url} did not answer within {timeout_setting}", DOWN_PAUSE)
        case openai.APIConnectionError():
            reason = error.__cause__ or error
            return ProviderUnavailable(f"no answer from {base_url}: {type(reason).__name__}: {reason}", DOWN_PAUSE)
        case MalformedResponse():
            return ProviderUnavailable(f"{base_url} gave an answer that is not of OpenAI's form: {error}", DOWN_PAUSE)
    return error


def _refusal(error: "openai.APIStatusError", model: PricedModel) -> Exception:
    """The policy for a bad request: either the server refuses an input, or the request itself is wrong."""
    message, code, parameter = error.message, error.code or "", error.param or ""
    if code in OUT_OF_QUOTA:
        return _out_of_quota(error)
    if FILTERED & {code, error.type}:
        return PermanentFailure(f"{model.name} refuses it: {message}")
    if code == "max_tokens_per_request" or "tokens per request" in message or error.status_code == 413:
        return RequestTooLarge(message)
    if code == "context_length_exceeded" or "maximum context length" in message or "maximum input length" in message:
        return InputTooLong(message)
    if "dimensions" in message and "image" not in message.lower():
        parameter = "dimensions"
    if setting := SETTINGS.get(parameter):
        return ConfigurationError(f"{setting}: {message}")
    # each request would be refused for this: splitting one would not help
    if code in UNFIT_CODES or parameter in UNFIT_PARAMETERS:
        return ConfigurationError(f"{model.setting}: {model.name} cannot be asked like this: {message}")
    return InputRefused(message)


def _out_of_quota(error: "openai.APIStatusError") -> RateLimited:
    return RateLimited(f"the provider's quota is used up, look at its billing: {error.message}", QUOTA_PAUSE)


def pause(headers: Mapping[str, str], default: timedelta = RATE_LIMIT_PAUSE) -> timedelta:
    """How long the provider is not to be asked, by the headers of a refusal."""
    for seconds in (_retry_after(headers), _reset(headers)):
        if seconds is not None and seconds > 0:
            return min(timedelta(seconds=max(seconds, 1)), LONGEST_PAUSE)
    return default


def seconds_of(duration: str) -> float | None:
    """The seconds of "6m0s", "120ms" or "1.5", the forms in which rate limits are stated; None for anything else."""
    parts = _DURATION.findall(duration)
    if not parts or "".join(number + unit for number, unit in parts) != duration:
        return None
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def _retry_after(headers: Mapping[str, str]) -> float | None:
    if (milliseconds := seconds_of(headers.get("retry-after-ms", ""))) is not None:
        return milliseconds / 1000
    stated = headers.get("retry-after", "")
    if (seconds := seconds_of(stated)) is not None:
        return seconds
    try:
        return parsedate_to_datetime(stated).timestamp() - time.time()
    except (ValueError, OverflowError):
        return None


def _reset(headers: Mapping[str, str]) -> float | None:
    """The seconds until the limits that are used up allow requests again."""
    resets = [
        seconds_of(headers.get(f"x-ratelimit-reset-{what}", "")) or 0
        for what in ("requests", "tokens")
        if headers.get(f"x-ratelimit-remaining-{what}") == "0"
    ]
    return max(resets, default=None)
