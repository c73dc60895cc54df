"""The same server: who gets in, what a key lets see, and what is counted of it."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from support.serving_adapters import ASK
from support.serving_calls import ask, in_ledger, metric, post, scrape, wait_for

from cluster.billing.usage import read_usage, usage_by_model
from cluster.store.storage import Store
from registry.adapters import Registry
from serving.application import Server
from serving.door.keys import NewKey, create_key, revoke_key
from serving.plan import ServePlan

ROUTES = [("GET", "/v1/models"), ("GET", "/v1/models/fruit"), ("POST", "/v1/chat/completions")]
ROUTES += [("POST", "/v1/completions"), ("POST", "/v1/embeddings"), ("GET", "/docs"), ("GET", "/openapi.json")]


def request(server: Server, authorization: str | None, method: str = "GET", path: str = "/v1/models") -> httpx.Response:
    headers = {} if authorization is None else {"Authorization": authorization}
    body = {"model": "fruit", "messages": ASK, "prompt": "x", "max_tokens": 1} if method == "POST" else None
    return httpx.request(method, f"{server.url}{path}", headers=headers, json=body, timeout=60)


def client_of(server: Server, key: NewKey) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key=key.token, max_retries=0, timeout=300)


# --- who gets in


def test_nothing_is_answered_without_a_valid_key(server: Server, keys: dict[str, NewKey]) -> None:
    good, other = keys["all"].token, keys["fruit"].token
    mixed = good[:12] + other[12:]  # one key's id, another's secret
    wrong = [None, "", "Bearer", f"Basic {good}", "Bearer sk-123", f"Bearer {good}x", f"Bearer {good[:-1]}"]
    wrong += [f"Bearer gf-00000000-{good[12:]}", f"Bearer {mixed}", f"Bearer {keys['over'].token}", f"Bearer {good} x"]
    for authorization in wrong:
        answer = request(server, authorization)
        assert answer.status_code == 401, authorization
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.json()["error"]["code"] == "invalid_api_key"
        assert not authorization or authorization.partition(" ")[2] not in answer.text or len(authorization) < 8
    for method, path in ROUTES:
        assert request(server, None, method, path).status_code == 401, path


def test_routes_that_are_not_served_say_so(server: Server, keys: dict[str, NewKey]) -> None:
    for method, path in ROUTES[4:]:
        answer = request(server, f"Bearer {keys['all'].token}", method, path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "unknown_url")


def test_a_key_sees_and_asks_its_own_adapters_alone(server: Server, keys: dict[str, NewKey]) -> None:
    api = client_of(server, keys["fruit"])
    names = [entry.id for entry in api.models.list()]
    assert {"fruit", "fruit@prod", "fruit@1"} <= set(names)
    assert all(name.partition("@")[0] == "fruit" for name in names)
    assert ask(api, "fruit") == ("banana", "fruit@1")
    texts = set()
    for name in ("animal", "animal@1", "nothere", "base"):
        for call in (lambda name=name: ask(api, name), lambda name=name: api.models.retrieve(name)):
            with pytest.raises(openai.NotFoundError) as caught:
                call()
            assert caught.value.code == "model_not_found"
            texts.add(caught.value.message.replace(name, "NAME", 1))
    (text,) = texts  # nothing tells one that exists from one that does not
    assert "does not exist, or this key may not use it" in text
    assert not any(secret in text for secret in ("animal", "music", "base"))


def test_a_revoked_key_is_refused_without_a_restart(server: Server, store: Store) -> None:
    key = create_key(store, "short", adapters=["fruit"], base=False)
    wait_for(lambda: post(server, key, "fruit@1").status_code, 200, seconds=30)
    revoke_key(store, key.record.id)
    wait_for(lambda: post(server, key, "fruit@1").status_code, 401, seconds=30)
    assert "revoked" in post(server, key, "fruit@1").json()["error"]["message"]


# --- what answers say


def test_the_digest_of_the_weights_is_in_a_header(
    server: Server, keys: dict[str, NewKey], registry: Registry, plan: ServePlan
) -> None:
    for stream in (False, True):
        fruit, base = (post(server, keys["all"], name, stream=stream) for name in ("fruit@1", "base"))
        assert fruit.headers["x-guitarfish-digest"] == registry.card("fruit", 1).weights_sha256
        assert (base.headers["x-guitarfish-version"], base.headers["x-guitarfish-digest"]) == ("base", plan.base_digest)


def test_streams_have_the_counts_that_were_asked_for(server: Server, keys: dict[str, NewKey]) -> None:
    whole = post(server, keys["all"], "fruit@1").json()["usage"]
    for options in (None, {"include_usage": False}, {"include_usage": True}):
        more = {} if options is None else {"stream_options": options}
        events = events_of(post(server, keys["all"], "fruit@1", stream=True, **more))
        counts = [event["usage"] for event in events if event.get("usage")]
        assert len(counts) == (1 if options == {"include_usage": True} else 0)
        assert all(one["completion_tokens"] == whole["completion_tokens"] for one in counts)
        assert all(event["choices"] for event in events[: -1 if counts else None])
    each = {"include_usage": True, "continuous_usage_stats": True}
    events = events_of(post(server, keys["all"], "fruit@1", stream=True, stream_options=each))
    assert all(event["usage"] for event in events)


def events_of(response: httpx.Response) -> list[dict[str, Any]]:
    lines = [line.removeprefix("data: ") for line in response.text.splitlines() if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


# --- what is counted


def test_metrics_and_ledger_have_the_engines_own_numbers(server: Server, store: Store, plan: ServePlan) -> None:
    key = create_key(store, "counted", adapters=["fruit"], base=True)
    wait_for(lambda: post(server, key, "base", max_tokens=1).status_code, 200, seconds=30)
    asked: list[dict[str, int]] = []
    for stream in (False, True):
        for name in ("fruit@1", "base"):
            response = post(
                server, key, name, stream=stream, **({"stream_options": {"include_usage": True}} if stream else {})
            )
            asked.append(events_of(response)[-1]["usage"] if stream else response.json()["usage"])
    asked.append(post(server, key, "base", max_tokens=1).json()["usage"])
    post(server, key, "fruit@1", stream=True)  # a client that does not care for counts
    refused = [post(server, key, "animal"), post(server, key, "fruit@1", max_tokens=-1)]
    assert [answer.status_code for answer in refused] == [404, 400]
    whole = asked[0]
    first = post(server, key, "base", max_tokens=1).json()["usage"]
    wanted = {
        "requests": 10,
        "failed": 0,
        "refused": 2,
        "prompt_tokens": sum(one["prompt_tokens"] for one in [*asked, whole, first, first]),
        "completion_tokens": sum(one["completion_tokens"] for one in [*asked, whole, first, first]),
    }
    wait_for(lambda: in_ledger(store, key), wanted, seconds=30)
    label = {"key": key.record.id}
    wait_for(lambda: metric(scrape(server), REQUESTS, **label), 10)
    text = scrape(server)
    assert metric(text, REQUESTS, status="4xx", **label) == 2
    assert metric(text, REQUESTS, model="-", **label) == 1
    assert metric(text, "ray_guitarfish_prompt_tokens_total", **label) == wanted["prompt_tokens"]
    assert metric(text, "ray_guitarfish_completion_tokens_total", **label) == wanted["completion_tokens"]
    assert metric(text, "ray_guitarfish_request_seconds_count", model="fruit@1", **label) == 3
    assert metric(text, "ray_guitarfish_seconds_to_first_token_count", **label) == 8
    seconds = metric(text, "ray_guitarfish_request_seconds_sum", **label)
    assert 0 < metric(text, "ray_guitarfish_seconds_to_first_token_sum", **label) < seconds
    assert metric(text, "ray_guitarfish_adapter_load_seconds_count", model="fruit@1") >= 1


REQUESTS = "ray_guitarfish_requests_total"


def test_an_answer_that_the_client_breaks_off_is_counted(server: Server, store: Store, keys: dict[str, NewKey]) -> None:
    key = create_key(store, "impatient", adapters=[], base=True)
    wait_for(lambda: httpx_models(server, key), 200, seconds=30)
    body = {"model": "base", "messages": ASK, "max_tokens": 400, "stream": True, "ignore_eos": True, "temperature": 0}
    headers = {"Authorization": f"Bearer {key.token}"}
    with httpx.stream("POST", f"{server.url}/v1/chat/completions", json=body, headers=headers, timeout=300) as response:
        lines = response.iter_lines()
        read = [next(lines) for _ in range(20)]
    assert "usage" not in "".join(read)
    wait_for(lambda: in_ledger(store, key)["requests"], 1, seconds=60)
    counted = in_ledger(store, key)
    assert 5 <= counted["completion_tokens"] < 400
    assert counted["prompt_tokens"] > 0
    assert (counted["failed"], counted["refused"]) == (0, 0)
    wait_for(lambda: metric(scrape(server), REQUESTS, key=key.record.id, status="cancelled"), 1)


def httpx_models(server: Server, key: NewKey) -> int:
    return request(server, f"Bearer {key.token}").status_code


def test_the_ledger_says_what_each_adapter_cost(store: Store, plan: ServePlan) -> None:
    records = read_usage(store)
    assert {record.server for record in records} == {records[0].server}
    assert [record.seq for record in records] == list(range(len(records)))
    assert all(one.ended_at == other.started_at for one, other in pairwise(records))
    assert all(record.base_digest == plan.base_digest for record in records)
    assert all(0 <= record.busy_replica_seconds <= record.replica_seconds for record in records)
    assert sum(record.busy_replica_seconds for record in records) > 0
    usage = {one.model: one for one in usage_by_model(records)}
    assert usage["fruit@1"].usd > 0
    assert usage["fruit@1"].usd_per_million_tokens
    total = sum(record.cost_usd for record in records)
    assert sum(one.usd for one in usage.values()) == pytest.approx(total)


def test_no_key_is_written_anywhere(server: Server, store: Store, keys: dict[str, NewKey]) -> None:
    """In the store, in Ray's and vLLM's logs, in metrics: neither keys that are valid nor such as were tried."""
    tried = f"gf-deadbeef-{'planted' * 6}x"
    assert request(server, f"Bearer {tried}").status_code == 401
    secrets = [key.token.split("-", 2)[2].encode() for key in keys.values()] + [b"planted" * 6]
    assert server.logs is not None
    places: dict[str, bytes] = {str(file): file.read_bytes() for file in server.logs.rglob("*") if file.is_file()}
    places |= store.read_many([path for path in store.walk("") if not path.endswith(".safetensors")])
    places["metrics"] = scrape(server).encode()
    assert any(path.startswith("usage/") for path in places)
    assert any("FrontDoor" in Path(place).name for place in places)
    found = [place for place, content in places.items() if any(secret in content for secret in secrets)]
    assert found == []
