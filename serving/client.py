"""A thin client of the OpenAI endpoints, for the demo and for checks: no retries, no state."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from typing import Any

import httpx

from runspec.errors import ServingError

Message = dict[str, Any]


def wait_ready(url: str, timeout: float) -> float:
    """Wait until the server lists its models; return the seconds that took.

    Raises:
        ServingError: it did not within `timeout` seconds.
    """
    start = time.monotonic()
    last = "no answer"
    while time.monotonic() - start < timeout:
        try:
            response = httpx.get(f"{url}/v1/models", timeout=5)
            if response.status_code == 200:
                return time.monotonic() - start
            last = f"status {response.status_code}"
        except httpx.HTTPError as error:
            last = str(error) or type(error).__name__
        time.sleep(0.5)
    raise ServingError(
        f"No server answered at {url} within {timeout:g} s: {last}.",
        where=url,
        fix="Start one with `guitarfish serve`, or look into its logs.",
    )


def models(url: str) -> list[str]:
    """The names the server answers to."""
    return [entry["id"] for entry in _checked(httpx.get(f"{url}/v1/models", timeout=30))["data"]]


def chat(
    url: str, model: str, messages: Sequence[Message], stream: bool = False, *, timeout: float = 300, **options: Any
) -> str:
    """The model's answer to a conversation.

    Args:
        url: the server's address, without /v1.
        model: the base's name, `NAME`, `NAME@ALIAS` or `NAME@VERSION`.
        messages: OpenAI's form.
        stream: read the answer as it is written; the text is the same.
        timeout: seconds without a byte.
        options: further fields of the request: temperature, max_tokens, ...

    Raises:
        ServingError: the server refused, with its message.
    """
    body = {"model": model, "messages": list(messages), "stream": stream, **options}
    if stream:
        return "".join(_stream(url, body, timeout))
    answer = _checked(httpx.post(f"{url}/v1/chat/completions", json=body, timeout=timeout))
    return answer["choices"][0]["message"]["content"] or ""


def _stream(url: str, body: dict[str, Any], timeout: float) -> Iterator[str]:
    with httpx.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=timeout) as response:
        if response.status_code != 200:
            response.read()
            _checked(response)
        for line in response.iter_lines():
            event = line.removeprefix("data: ")
            if not line.startswith("data: ") or event == "[DONE]":
                continue
            for choice in json.loads(event)["choices"]:
                yield choice["delta"].get("content") or ""


def _checked(response: httpx.Response) -> Any:
    if response.status_code == 200:
        return response.json()
    try:
        message = response.json()["error"]["message"]
    except (ValueError, KeyError, TypeError):
        message = response.text[:300] or "no message"
    raise ServingError(
        f"The server answered {response.status_code}: {message}",
        where=str(response.request.url),
        fix="GET /v1/models lists the names it answers to." if response.status_code == 404 else "",
    )
