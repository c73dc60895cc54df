"""Token counts cut out of streamed chunks, as vLLM writes them."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from serving.door.gate import Visit
from serving.door.stream_usage import AdapterLoad, Wanted, note_usage, read_chunk

NOTHING, AT_END, EACH = Wanted(False, False), Wanted(True, False), Wanted(True, True)


def chunk(choices: list[Any], usage: Any = None, **more: Any) -> str:
    body: dict[str, Any] = {
        "id": "1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": choices,
    }
    body |= {} if usage is None else {"usage": usage}
    return f"data: {json.dumps(body | more, separators=(',', ':'))}\n\n"


def counts(completion: int, **more: Any) -> dict[str, Any]:
    return {"prompt_tokens": 7, "total_tokens": 7 + completion, "completion_tokens": completion} | more


TEXT = [{"index": 0, "delta": {"content": 'he said ,"usage":{"prompt_tokens":99} and {'}}]


@pytest.mark.parametrize(
    "details", [{}, {"prompt_tokens_details": None}, {"completion_tokens_details": {"reasoning": 1}}]
)
@pytest.mark.parametrize("more", [{}, {"prompt_token_ids": [1, 2]}])
def test_counts_in_a_chunk_are_read_and_cut_out(details: dict[str, Any], more: dict[str, Any]) -> None:
    usage = counts(3, **details)
    found = read_chunk(chunk(TEXT, usage, **more), NOTHING)
    assert found.usage is not None
    assert json.loads(found.usage) == usage
    assert found.text == chunk(TEXT, None, **more)
    assert read_chunk(chunk(TEXT, usage), EACH).text == chunk(TEXT, usage)
    assert read_chunk(chunk(TEXT, usage), AT_END).text == chunk(TEXT)


def test_the_last_chunk_is_for_those_who_asked() -> None:
    last = chunk([], counts(9))
    assert read_chunk(last, NOTHING).text == ""
    assert read_chunk(last, AT_END).text == last
    assert read_chunk(last, EACH).text == last


@pytest.mark.parametrize("event", [chunk(TEXT), "data: [DONE]\n\n", chunk([])])
def test_what_has_no_counts_passes(event: str) -> None:
    assert read_chunk(event, NOTHING).text == event
    assert read_chunk(event, NOTHING).usage is None


def test_an_answer_that_speaks_of_usage_is_left_alone() -> None:
    event = chunk([{"index": 0, "delta": {"content": 'x","usage":{"prompt_tokens":1}'}}])
    assert read_chunk(event, NOTHING).text == event


def test_a_stream_ends_with_the_engines_sum() -> None:
    visit = Visit()
    first = note_usage(visit, [chunk(TEXT, counts(0))], NOTHING)
    assert (first, visit.tokens) == ([chunk(TEXT)], (7, 0))
    assert note_usage(visit, [chunk(TEXT, counts(1)), chunk(TEXT, counts(2))], NOTHING) == [chunk(TEXT)] * 2
    assert visit.tokens == (7, 2)
    assert note_usage(visit, [chunk([], counts(3))], NOTHING) == []
    assert note_usage(visit, "data: [DONE]\n\n", NOTHING) == ["data: [DONE]\n\n"]
    assert visit.tokens == (7, 3)
    assert visit.first_token_at is not None
    assert not visit.broken


def test_a_whole_response_is_handed_on_as_it_is() -> None:
    usage = SimpleNamespace(model_dump_json=lambda: json.dumps(counts(5)))
    visit, response = Visit(), SimpleNamespace(usage=usage)
    assert note_usage(visit, response, NOTHING) is response
    assert visit.tokens == (7, 5)


def test_an_adapters_load_is_noted_and_goes_no_further() -> None:
    visit = Visit()
    assert note_usage(visit, AdapterLoad(1.5), NOTHING) == []
    assert (visit.load_seconds, visit.first_token_at) == (1.5, None)


def test_an_error_in_a_stream_is_a_failure() -> None:
    visit = Visit(http_status=200, complete=True)
    note_usage(visit, ['data: {"error":{"message":"out of memory"}}\n\n'], NOTHING)
    assert visit.status == "5xx"
