"""What can go wrong with a request, and the one policy for each."""

import re
import time
from collections.abc import Mapping
from datetime import timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from matching_pipeline.errors import ConfigurationError, PermanentFailure, ProviderUnavailable

if TYPE_CHECKING:
    import openai

RATE_LIMIT_PAUSE = timedelta(seconds=20)
"""Where a rate limit does not say for how long, or says a time that is over."""
DOWN_PAUSE = timedelta(seconds=30)
QUOTA_PAUSE = timedelta(hours=1)
LONGEST_PAUSE = timedelta(hours=1)

FILTERED = frozenset(
    {
        "content_filter",
        "content_policy_violation",
        "image_content_policy_violation",
        "invalid_prompt",
        "moderation_blocked",
    }
)
OUT_OF_QUOTA = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"})
UNFIT_CODES = frozenset({"unsupported_parameter", "unsupported_value", "invalid_json_schema", "unknown_parameter"})
UNFIT_PARAMETERS = frozenset({"model", "size", "output_format", "input_fidelity"})
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|h|m|s|)")
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001, "": 1.0}


class RateLimited(ProviderUnavailable):
    """The provider is up, and wants fewer requests."""


class BadRequest(Exception):
    """The server refuses what this request holds: without its culprit the rest may pass."""


class TooMuch(BadRequest):
    """More tokens than one request may have."""


class TooLong(BadRequest):
    """More tokens than the model takes of one input."""


class Misfit(Exception):
    """An answer that is not of the protocol's form."""


def as_policy(
    error: Exception,
    *,
    model: str,
    model_setting: str,
    base_url: str,
    timeout_setting: str = "OPENAI_TIMEOUT_SECONDS",
) -> Exception:
    """What to raise for what OpenAI's client raised, or for an answer that is a Misfit."""
    import openai

    match error:
        case openai.RateLimitError() if "request too large" in error.message.lower():
            return TooMuch(error.message)
        case openai.RateLimitError() if OUT_OF_QUOTA & {error.code, error.type}:
            return RateLimited(f"the provider's quota is used up, look at its billing: {error.message}", QUOTA_PAUSE)
        case openai.RateLimitError():
            return RateLimited(f"rate limit: {error.message}", pause(error.response.headers))
        case openai.AuthenticationError():
            return ConfigurationError(f"OPENAI_API_KEY: the provider refuses it: {error.message}")
        case openai.PermissionDeniedError():
            return ConfigurationError(f"OPENAI_API_KEY: it may not do this with {model}: {error.message}")
        case openai.NotFoundError() if error.code == "model_not_found" or model in error.message:
            return ConfigurationError(f"{model_setting}: the provider has no model {model}: {error.message}")
        case openai.NotFoundError():
            return ConfigurationError(
                f"OPENAI_BASE_URL: {base_url} does not speak OpenAI's protocol: {error.message}"
            )
        case openai.APIStatusError() if error.status_code in (400, 413, 422):
            return _refusal(error, model=model, model_setting=model_setting)
        case openai.APIStatusError():
            pause_for = pause(error.response.headers, default=DOWN_PAUSE)
            return ProviderUnavailable(f"the provider fails: {error.message}", pause_for)
        case openai.APITimeoutError():
            return ProviderUnavailable(f"{base_url} did not answer within {timeout_setting}", DOWN_PAUSE)
        case openai.APIConnectionError():
            reason = error.__cause__ or error
            return ProviderUnavailable(f"no answer from {base_url}: {type(reason).__name__}: {reason}", DOWN_PAUSE)
        case Misfit():
            return ProviderUnavailable(f"{base_url} gave an answer that is not of OpenAI's form: {error}", DOWN_PAUSE)
    return error


def _refusal(error: "openai.APIStatusError", *, model: str, model_setting: str) -> Exception:
    """Of a request that is bad: is it what it holds, or how it was asked?"""
    message, code, parameter = error.message, error.code or "", error.param or ""
    if code in OUT_OF_QUOTA:
        return RateLimited(f"the provider's quota is used up, look at its billing: {message}", QUOTA_PAUSE)
    if code in FILTERED or (error.type or "") in FILTERED:
        return PermanentFailure(f"{model} refuses it: {message}")
    if code == "max_tokens_per_request" or "tokens per request" in message or error.status_code == 413:
        return TooMuch(message)
    if code == "context_length_exceeded" or "maximum context length" in message or "maximum input length" in message:
        return TooLong(message)
    if parameter == "dimensions" or ("dimensions" in message and "image" not in message.lower()):
        return ConfigurationError(f"OPENAI_EMBEDDING_DIMENSIONS: {message}")
    if parameter == "reasoning_effort":
        return ConfigurationError(f"OPENAI_VISION_EFFORT: {message}")
    if parameter == "quality":
        return ConfigurationError(f"OPENAI_IMAGE_QUALITY: {message}")
    # it concerns every request alike: to look for a culprit would fail them all
    if code in UNFIT_CODES or parameter in UNFIT_PARAMETERS:
        return ConfigurationError(f"{model_setting}: {model} cannot be asked like this: {message}")
    return BadRequest(message)


def pause(headers: Mapping[str, str], default: timedelta = RATE_LIMIT_PAUSE) -> timedelta:
    """How long to leave the provider alone, by the headers of a refusal."""
    for seconds in (_retry_after(headers), _reset(headers)):
        if seconds is not None and seconds > 0:
            return min(timedelta(seconds=max(seconds, 1)), LONGEST_PAUSE)
    return default


def seconds_of(duration: str) -> float | None:
    """Of "6m0s", "120ms" or "1.5", as rate limits are stated; None for anything else."""
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
    """Until what is used up is there again."""
    resets = [
        seconds_of(headers.get(f"x-ratelimit-reset-{what}", "")) or 0
        for what in ("requests", "tokens")
        if headers.get(f"x-ratelimit-remaining-{what}") == "0"
    ]
    return max(resets, default=None)
