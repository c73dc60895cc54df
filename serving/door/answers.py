"""Errors as OpenAI's clients expect them: status, message, type, code and the parameter that was wrong."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from typing import Any

from runspec.errors import GuitarfishError, RegistryError, ServingError, StoreError


@dataclass(frozen=True)
class ApiError:
    """An answer that is an error.

    Attributes:
        status: HTTP status.
        message: what is wrong and what to do, for a person.
        type: OpenAI's class of error, for example `invalid_request_error`.
        code: OpenAI's code, for example `model_not_found`.
        param: the request's field that was wrong.
        headers: for example Retry-After.
    """

    status: int
    message: str
    type: str
    code: str
    param: str | None = None
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def body(self) -> dict[str, Any]:
        """The JSON body."""
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}


def unauthorized(reason: str) -> ApiError:
    """No key, or one that is not taken. What was sent is not repeated: it may be somebody's key, misspelt."""
    return ApiError(401, reason, "invalid_request_error", "invalid_api_key", headers={"WWW-Authenticate": "Bearer"})


def no_such_route(path: str) -> ApiError:
    """A route that is not served."""
    return ApiError(
        404,
        f"There is nothing at {path}. Served are /v1/models, /v1/chat/completions and /v1/completions.",
        "invalid_request_error",
        "unknown_url",
    )


def no_such_model(model: str, visible: list[str]) -> ApiError:
    """A model that does not exist, or that the request's key may not use: its sender cannot tell which.

    Args:
        model: as the client wrote it.
        visible: names that the key may use. No others are hinted at.
    """
    near = difflib.get_close_matches(model.lower(), visible, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    return ApiError(
        404,
        f"The model {model[:200]!r} does not exist, or this key may not use it.{hint} {_listing(visible)}",
        "invalid_request_error",
        "model_not_found",
        "model",
    )


def busy(waiting: int) -> ApiError:
    """More requests than replicas and queue take.

    Args:
        waiting: requests that may wait at the front door.
    """
    return ApiError(
        429,
        f"The server is busy: all replicas are full, and {waiting} requests wait already. Try again.",
        "rate_limit_error",
        "rate_limit_exceeded",
        headers={"Retry-After": "1"},
    )


def no_prompt_logprobs() -> ApiError:
    """See `requests.asks_for_prompt_logprobs`."""
    return ApiError(
        400,
        "This server does not score the prompt's tokens: prompt_logprobs, and echo with logprobs, are not supported "
        "beside adapters. Log-probabilities of the answer are: logprobs without echo.",
        "invalid_request_error",
        "unsupported_parameter",
        "prompt_logprobs",
    )


def replica_lost() -> ApiError:
    """The replica or its engine died; Ray Serve starts another."""
    return ApiError(
        503,
        "The engine stopped and is being started again. Try again in a minute.",
        "service_unavailable_error",
        "engine_restarting",
        headers={"Retry-After": "30"},
    )


def internal() -> ApiError:
    """A fault of the server. What happened stays in its log: a trace is nothing for clients to see."""
    return ApiError(500, "The server made a mistake; its log says which.", "server_error", "internal_error")


def timed_out() -> ApiError:
    """No first token within the server's limit."""
    return ApiError(408, "The server did not answer in time.", "timeout_error", "timeout")


def engine_error(status: int, message: str, kind: str) -> ApiError:
    """What vLLM or a replica answered: 4xx is the request's fault, 503 the adapter's, other 5xx the server's."""
    if status == 503:
        return ApiError(503, message, "service_unavailable_error", "adapter_unavailable", "model")
    if 400 <= status < 500:
        return ApiError(status, message, "invalid_request_error", kind)
    return ApiError(500, message, "server_error", kind)


def of(error: GuitarfishError, served: list[str]) -> ApiError:
    """The answer for one of our own errors.

    Args:
        error: RegistryError for an unknown name, ServingError for an adapter that does not fit this server,
            StoreError for a store that does not answer.
        served: names that would have been answered.
    """
    message = text_of(error)
    if isinstance(error, RegistryError):
        return ApiError(404, f"{message} {_listing(served)}", "invalid_request_error", "model_not_found", "model")
    if isinstance(error, ServingError):
        return ApiError(404, f"{message} {_listing(served)}", "invalid_request_error", "model_not_served", "model")
    if isinstance(error, StoreError):
        return ApiError(
            503, f"The registry does not answer: {message}", "service_unavailable_error", "store_unavailable"
        )
    return ApiError(500, message, "server_error", "internal_error")


def text_of(error: GuitarfishError) -> str:
    """What is wrong and how to mend it, as sentences: our errors end in none or in a full stop."""
    parts = (part.strip() for part in (error.what, error.fix) if part.strip())
    return " ".join(part[0].upper() + part[1:] + ("" if part[-1] in ".?!" else ".") for part in parts)


def _listing(served: list[str]) -> str:
    shown = ", ".join(served[:20])
    return f"Served here: {shown}{', ...' if len(served) > 20 else ''}."
