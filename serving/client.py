"""A small client of the OpenAI endpoints, for `ask`, the demo and tests: no retries, no state."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from typing import Any

import httpx

from runspec.errors import ServingError

Message = dict[str, Any]
KEY_VARIABLE = "GUITARFISH_API_KEY"
"""Environment variable with the API key. It is not an option, because every user can see a process's options."""


def wait_ready(url: str, timeout: float) -> float:
    """Wait until the server answers, even if only that it requires a key; returns how many seconds that took.

    Raises:
        ServingError: it did not answer within `timeout` seconds.
    """
    start = time.monotonic()
    last = "no answer"
    while time.monotonic() - start < timeout:
        try:
            response = httpx.get(f"{url}/v1/models", timeout=5)
            if response.status_code in (200, 401):
                return time.monotonic() - start
            last = f"status {response.status_code}"
        except httpx.HTTPError as error:
            last = str(error) or type(error).__name__
        time.sleep(0.5)
    raise ServingError(
        f"No server answered at {url} within {timeout:g} s: {last}.",
        where=url,
        fix="Start one with `guitarfish serve`, or read its logs.",
    )


def models(url: str) -> list[str]:
    """The names that the key may use. Raises ServingError with the server's message if it refuses."""
    return [entry["id"] for entry in _checked(httpx.get(f"{url}/v1/models", headers=_headers(), timeout=30))["data"]]


def chat(
    url: str, model: str, messages: Sequence[Message], stream: bool = False, *, timeout: float = 300, **options: Any
) -> str:
    """The model's answer to a conversation.

    Args:
        url: the server's address, without /v1.
        model: the base's name, `NAME`, `NAME@ALIAS` or `NAME@VERSION`.
        messages: OpenAI's form.
        stream: read the answer as it is generated; the text is the same.
        timeout: seconds without a byte.
        options: further fields of the request: temperature, max_tokens, ...

    Raises:
        ServingError: the server refused; with its message.
    """
    body = {"model": model, "messages": list(messages), "stream": stream, **options}
    if stream:
        return "".join(_stream(url, body, timeout))
    answer = _checked(httpx.post(f"{url}/v1/chat/completions", json=body, headers=_headers(), timeout=timeout))
    return answer["choices"][0]["message"]["content"] or ""


def _stream(url: str, body: dict[str, Any], timeout: float) -> Iterator[str]:
    place = f"{url}/v1/chat/completions"
    with httpx.stream("POST", place, json=body, headers=_headers(), timeout=timeout) as response:
        if response.status_code != 200:
            response.read()
            _checked(response)
        for line in response.iter_lines():
            event = line.removeprefix("data: ")
            if not line.startswith("data: ") or event == "[DONE]":
                continue
            for choice in json.loads(event)["choices"]:
                yield choice["delta"].get("content") or ""


def _headers() -> dict[str, str]:
    key = os.environ.get(KEY_VARIABLE, "").strip()
    if not key:
        return {}
    if not (key.isascii() and key.isprintable() and " " not in key):
        raise ServingError(
            f"The value of {KEY_VARIABLE} is not an API key: it contains characters that no key has.",
            where=f"environment: {KEY_VARIABLE}",
            fix="Set it to exactly what `guitarfish keys create` printed.",
        )
    return {"Authorization": f"Bearer {key}"}


def _checked(response: httpx.Response) -> Any:
    if response.status_code == 200:
        return response.json()
    try:
        message = response.json()["error"]["message"]
    except (ValueError, KeyError, TypeError):
        message = response.text[:300] or "no message"
    fixes = {
        401: f"Set the environment variable {KEY_VARIABLE} to a key that `guitarfish keys create` printed.",
        404: "Use one of the names that GET /v1/models lists.",
        429: f"Wait {response.headers.get('retry-after', '1')} s and ask again.",
    }
    raise ServingError(
        f"The server answered {response.status_code}: {message}",
        where=str(response.request.url),
        fix=fixes.get(response.status_code, ""),
    )
