"""Error responses in OpenAI's form: status, message, type, code and the request's field that was wrong."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from typing import Any

from runspec.errors import GuitarfishError, RegistryError, ServingError, StoreError


@dataclass(frozen=True)
class ApiError:
    """An error response. `type`, `code` and `param` are OpenAI's."""

    status: int
    message: str
    type: str
    code: str
    param: str | None = None
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def body(self) -> dict[str, Any]:
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}


TIMED_OUT = ApiError(408, "The server did not answer in time.", "timeout_error", "timeout")
"""No first token within the server's limit."""
INTERNAL_ERROR = ApiError(500, "Internal server error; see the server's log.", "server_error", "internal_error")
"""Clients do not see what happened: a traceback may contain anything."""
REPLICA_LOST = ApiError(
    503,
    "The engine stopped and is being restarted. Try again in a minute.",
    "service_unavailable_error",
    "engine_restarting",
    headers={"Retry-After": "30"},
)


def unauthorized(reason: str) -> ApiError:
    """No key, or not a valid one. The message never repeats what was sent: it may be a real key with a typo."""
    return ApiError(401, reason, "invalid_request_error", "invalid_api_key", headers={"WWW-Authenticate": "Bearer"})


def no_such_route(path: str) -> ApiError:
    return ApiError(
        404,
        f"{path} is not served. Use /v1/models, /v1/chat/completions or /v1/completions.",
        "invalid_request_error",
        "unknown_url",
    )


def no_such_model(model: str, visible: list[str]) -> ApiError:
    """A model that does not exist, or that the request's key may not use: the client cannot tell which.

    Args:
        model: as the client wrote it.
        visible: names that the key may use; the message contains no others.
    """
    near = difflib.get_close_matches(model.lower(), visible, n=1)
    hint = f" Did you mean `{near[0]}`?" if near else ""
    return ApiError(
        404,
        f"The model {model[:200]!r} does not exist, or this key may not use it.{hint} {_listing(visible)}",
        "invalid_request_error",
        "model_not_found",
        "model",
    )


def busy(waiting: int) -> ApiError:
    """More requests than the replicas and the queue take; `waiting` is the queue's length."""
    return ApiError(
        429,
        f"The server is busy: all replicas are full and {waiting} requests wait already. Try again.",
        "rate_limit_error",
        "rate_limit_exceeded",
        headers={"Retry-After": "1"},
    )


def refuse_prompt_logprobs(body: Any) -> ApiError | None:
    """The answer to a chat or completion request that makes vLLM score the prompt's own tokens; None for others.

    With adapters on, vLLM computes those with the adapters of other rows of the batch: the values may be another
    tenant's, and on CPU the engine dies (https://github.com/vllm-project/vllm/issues/16668, open; seen with 0.32). It
    does so for `prompt_logprobs`, and for `echo` with log-probabilities, which default to 0 in a chat request, not to
    none.
    """
    depth = body.top_logprobs if hasattr(body, "top_logprobs") else getattr(body, "logprobs", None)
    echoed = bool(getattr(body, "echo", False)) and depth is not None
    if getattr(body, "prompt_logprobs", None) is None and not echoed:
        return None
    return ApiError(
        400,
        "This server does not score the prompt's tokens: prompt_logprobs, and echo with logprobs, are not supported "
        "with adapters. Use logprobs without echo for the log-probabilities of the answer.",
        "invalid_request_error",
        "unsupported_parameter",
        "prompt_logprobs",
    )


def engine_error(status: int, message: str, kind: str) -> ApiError:
    """What vLLM or a replica answered: 4xx is the request's fault, 503 the adapter's, any other 5xx the server's."""
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
    if isinstance(error, (RegistryError, ServingError)):
        code = "model_not_found" if isinstance(error, RegistryError) else "model_not_served"
        return ApiError(404, f"{message} {_listing(served)}", "invalid_request_error", code, "model")
    if isinstance(error, StoreError):
        what = f"The registry is not available. {message}"
        return ApiError(503, what, "service_unavailable_error", "store_unavailable")
    return ApiError(500, message, "server_error", "internal_error")


def text_of(error: GuitarfishError) -> str:
    return f"{error.what} {error.fix}".strip()


def _listing(served: list[str]) -> str:
    return f"Served here: {', '.join(served[:20])}{' and others' if len(served) > 20 else ''}."
