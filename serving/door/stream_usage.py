"""The engine's token counts in streamed answers: always requested, and removed for clients that did not ask.

vLLM can put the counts so far into every chunk (`continuous_usage_stats`), so they are known even if the client breaks
the answer off. They are cut out of the text: to parse and serialise every chunk would cost more than passing it on.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import Any

from serving.door.gate import Visit

_USAGE = re.compile(r',"usage":(?P<usage>\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\}|null)')
"""As vLLM writes it. Inside an answer's text the quotes would be escaped, so this can only be the key."""
_LAST = '"choices":[]'
"""The last chunk, which only has the counts."""
_ERROR = 'data: {"error"'


@dataclass(frozen=True)
class AdapterLoad:
    """What a replica sends ahead of an answer if it had to load the adapter for it."""

    seconds: float


@dataclass(frozen=True)
class Chunk:
    """One event of a stream.

    Attributes:
        text: what the client gets, or the engine's error object; empty if it gets nothing.
        usage: the engine's counts in it, as JSON.
        failed: it is an error.
    """

    text: Any
    usage: str | None
    failed: bool


@dataclass(frozen=True)
class Wanted:
    """Which counts the client asked for."""

    at_end: bool
    in_each: bool


def note_usage(visit: Visit, response: Any, wanted: Wanted) -> Any:
    """Note the counts in a part of the engine's answer: a whole response, an event, or a list of events.

    Returns:
        What the client gets; `[]` for nothing.
    """
    if isinstance(response, AdapterLoad):
        visit.load_seconds = response.seconds
        return []
    visit.first_token_at = visit.first_token_at or time.monotonic()
    if not isinstance(response, (str, list)):
        usage = getattr(response, "usage", None)
        visit.usage = usage.model_dump_json() if usage else None
        return response
    passed_on: list[Any] = []
    for part in [response] if isinstance(response, str) else response:
        chunk = read_chunk(part, wanted) if isinstance(part, str) else Chunk(part, None, failed=True)
        visit.usage = chunk.usage or visit.usage
        if chunk.failed:
            visit.fail()
        passed_on += [chunk.text] if chunk.text else []
    return passed_on


def read_chunk(event: str, wanted: Wanted) -> Chunk:
    """Cut the counts out of one event, `data: {...}` and an empty line, except those that the client asked for."""
    at = event.rfind(',"usage":')
    match = _USAGE.match(event, at) if at >= 0 else None
    if match is None:
        return Chunk(event, None, event.startswith(_ERROR))
    counts = None if match["usage"] == "null" else match["usage"]
    if _LAST in event:
        return Chunk(event if wanted.at_end else "", counts, failed=False)
    return Chunk(event if wanted.in_each else event[:at] + event[match.end() :], counts, failed=False)
