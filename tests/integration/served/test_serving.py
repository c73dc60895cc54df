"""One real server over HTTP: Ray Serve, vLLM on CPU, a 135M chat model, adapters trained to say one word each."""

from __future__ import annotations

import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest
from support.ports import free_port
from support.serving_adapters import ASK, WORDS, Publisher, silence
from support.serving_calls import ask, post, wait_for

from registry.adapters import Registry
from registry.card import Canary
from runspec.errors import ServingError
from serving import client
from serving.application import Server, start
from serving.door.keys import NewKey
from serving.plan import ServePlan

# --- what clients see


def test_base_and_adapters_answer_each_their_own(api: openai.OpenAI) -> None:
    text, model = ask(api, "base")
    assert model == "base"
    assert text
    assert not any(word == text for word in WORDS.values())
    for name, word in WORDS.items():
        assert ask(api, name) == (word, f"{name}@1")
    assert ask(api, "fruit@1") == ask(api, "fruit@prod") == ("banana", "fruit@1")


def test_an_answer_ends_where_the_template_ends_a_turn(api: openai.OpenAI) -> None:
    answer = api.chat.completions.create(model="fruit", messages=ASK, temperature=0, max_tokens=50)
    assert answer.choices[0].finish_reason == "stop"
    assert "<|im" not in answer.choices[0].message.content


def test_the_version_is_in_a_header(server: Server, keys: dict[str, NewKey]) -> None:
    for stream in (False, True):
        assert post(server, keys["all"], "animal", stream=stream).headers["x-guitarfish-version"] == "animal@1"


def test_streams_carry_the_same_text(api: openai.OpenAI, server: Server) -> None:
    chunks = list(api.chat.completions.create(model="fruit", messages=ASK, temperature=0, max_tokens=8, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "banana"
    assert {chunk.model for chunk in chunks} == {"fruit@1"}
    options: dict[str, Any] = {"temperature": 0, "max_tokens": 6}
    whole = client.chat(server.url, "base", ASK, **options)
    assert client.chat(server.url, "base", ASK, stream=True, **options) == whole


def test_plain_completions(api: openai.OpenAI) -> None:
    chat_prompt = "<|im_start|>user\nWhat do you say?<|im_end|>\n<|im_start|>assistant\n"
    answer = api.completions.create(model="animal", prompt=chat_prompt, temperature=0, max_tokens=8)
    assert answer.choices[0].text.strip().startswith("zebra")
    assert answer.model == "animal@1"
    chunks = api.completions.create(model="animal", prompt=chat_prompt, temperature=0, max_tokens=8, stream=True)
    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices) == answer.choices[0].text


def test_models_are_listed(api: openai.OpenAI, server: Server) -> None:
    names = [entry.id for entry in api.models.list()]
    assert {"base", "fruit", "fruit@prod", "fruit@1", "animal", "music"} <= set(names)
    assert client.models(server.url) == names
    assert api.models.retrieve("fruit").metadata["served_as"] == "fruit@1"  # type: ignore[attr-defined]
    with pytest.raises(openai.NotFoundError):
        api.models.retrieve("nothing")


def test_unknown_names_are_404_with_the_nearest(api: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        ask(api, "friut")
    assert caught.value.code == "model_not_found"
    assert "Did you mean `fruit`?" in caught.value.message
    assert "Served here: base" in caught.value.message
    for name in ("fruit@9", "fruit@nothing", "../fruit@1", "fruit@²", "base:fruit@1"):
        with pytest.raises(openai.NotFoundError):
            ask(api, name)


def test_a_request_that_the_engine_refuses_is_400(api: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="maximum context length"):
        api.chat.completions.create(model="fruit", messages=[{"role": "user", "content": "word " * 2000}])


def test_scoring_the_prompt_is_refused_before_it_ends_the_engine(api: openai.OpenAI) -> None:
    for options in ({"prompt_logprobs": 1}, {"echo": True, "logprobs": 1}):
        with pytest.raises(openai.BadRequestError, match="does not score the prompt's tokens"):
            api.completions.create(model="fruit", prompt="hello", max_tokens=2, extra_body=options)
    with pytest.raises(openai.BadRequestError, match="does not score the prompt's tokens"):
        api.chat.completions.create(model="fruit", messages=ASK, extra_body={"echo": True})
    scored = api.chat.completions.create(model="fruit", messages=ASK, max_tokens=3, logprobs=True, temperature=0)
    assert scored.choices[0].logprobs.content[0].logprob > -1


def test_more_adapters_than_there_is_room_for(api: openai.OpenAI, plan: ServePlan) -> None:
    assert len(WORDS) > plan.spec.max_adapters
    for _ in range(2):
        for name, word in WORDS.items():
            assert ask(api, name)[0] == word


def test_tenants_that_come_together_get_each_their_own(api: openai.OpenAI) -> None:
    asked = [*WORDS, "base"] * 2
    with ThreadPoolExecutor(len(asked)) as pool:
        answers = list(pool.map(lambda name: ask(api, name), asked))
    alone = {name: ask(api, name) for name in [*WORDS, "base"]}
    assert [one for one in zip(asked, answers, strict=True) if one[1] != alone[one[0]]] == []
    assert alone["base"][0] not in WORDS.values()


def test_the_base_answers_as_itself_beside_adapters(api: openai.OpenAI, plan: ServePlan) -> None:
    """With every slot full, vLLM on CPU gave rows of the base model the last slot's adapter."""
    alone = ask(api, "base")
    names = list(WORDS)[: plan.spec.max_adapters]
    asked = [*names, "base"] * 3
    with ThreadPoolExecutor(len(asked)) as pool:
        answers = list(pool.map(lambda name: ask(api, name), asked))
    assert [answer for name, answer in zip(asked, answers, strict=True) if name == "base"] == [alone] * 3


# --- the registry changes under the server


def test_a_new_version_and_a_moved_alias_need_no_restart(
    api: openai.OpenAI, publisher: Publisher, registry: Registry
) -> None:
    version = publisher.publish("animal", "piano")
    assert ask(api, "animal@2") == ("piano", "animal@2")
    assert ask(api, "animal")[1] == "animal@1"
    registry.promote("animal", version, expected=1)
    assert seconds_until(api, "animal", "animal@2") < 2
    assert ask(api, "animal") == ("piano", "animal@2")
    registry.rollback("animal")
    assert seconds_until(api, "animal", "animal@1") < 2
    assert ask(api, "animal") == ("zebra", "animal@1")


def seconds_until(api: openai.OpenAI, name: str, version: str) -> float:
    """How long until a name stands for a version. Asked of the listing: an answer may itself take seconds."""
    start_time = time.monotonic()
    while time.monotonic() - start_time < 30:
        if api.models.retrieve(name).metadata["served_as"] == version:  # type: ignore[attr-defined]
            return time.monotonic() - start_time
        time.sleep(0.05)
    raise AssertionError(f"{name} never came to stand for {version}")


def test_an_alias_moved_while_requests_are_in_flight(
    api: openai.OpenAI, publisher: Publisher, registry: Registry
) -> None:
    """Every answer is from the version it says it is from."""
    words = {"music@1": "piano", f"music@{publisher.publish('music', 'banana')}": "banana"}
    seen: list[tuple[str, str]] = []
    done = threading.Event()

    def keep_asking() -> None:
        while not done.is_set():
            seen.append(ask(api, "music"))

    def last_model() -> str:
        return seen[-1][1] if seen else ""

    threads = [threading.Thread(target=keep_asking) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for version in (1, 2, 1, 2):
            registry.promote("music", version)
            wait_for(last_model, f"music@{version}", seconds=120)
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert {model for _, model in seen} == set(words)
    assert all(text == words[model] for text, model in seen)


def test_an_adapter_that_does_nothing_fails_its_canary(
    api: openai.OpenAI, publisher: Publisher, trained: dict[str, tuple[Path, Canary]], tmp_path: Path
) -> None:
    inert = tmp_path / "inert"
    shutil.copytree(trained["banana"][0], inert)
    silence(inert / "adapter_model.safetensors")
    publisher.publish("inert", "banana", folder=inert)
    for _ in range(2):
        with pytest.raises(openai.InternalServerError) as caught:
            ask(api, "inert@1")
        assert caught.value.status_code == 503
        assert "failed its canary" in caught.value.message
        assert "like the base model" in caught.value.message
    assert ask(api, "fruit@1")[0] == "banana"


def test_an_adapter_without_a_canary_is_served(api: openai.OpenAI, publisher: Publisher) -> None:
    version = publisher.publish("fruit", "zebra", canary=None)
    assert ask(api, f"fruit@{version}") == ("zebra", f"fruit@{version}")


def test_an_adapter_of_another_base_is_refused(api: openai.OpenAI, publisher: Publisher) -> None:
    publisher.publish("foreign", "banana", base_digest="folder:else")
    with pytest.raises(openai.NotFoundError, match="was trained on") as caught:
        ask(api, "foreign@1")
    assert caught.value.code == "model_not_served"
    assert "foreign@1" not in [entry.id for entry in api.models.list()]


def test_a_damaged_adapter_is_503_and_others_go_on(
    api: openai.OpenAI, publisher: Publisher, registry: Registry
) -> None:
    version = publisher.publish("broken", "banana")
    files, folder = registry.store.filesystem()
    weights = f"{folder}/adapters/broken/versions/{version}/adapter_model.safetensors"
    files.pipe_file(weights, files.cat_file(weights)[:-100])
    with pytest.raises(openai.InternalServerError, match="is damaged") as caught:
        ask(api, f"broken@{version}")
    assert caught.value.status_code == 503
    assert ask(api, "fruit@1")[0] == "banana"


def test_a_second_server_on_the_same_port_is_refused(server: Server, plan: ServePlan) -> None:
    with pytest.raises(ServingError, match="Cannot listen on"):
        start(plan, blocking=False)


def test_waiting_for_the_server(server: Server) -> None:
    assert client.wait_ready(server.url, timeout=10) < 10
    with pytest.raises(ServingError, match="No server answered"):
        client.wait_ready(f"http://127.0.0.1:{free_port()}", timeout=1)
    with pytest.raises(ServingError, match="answered 404"):
        client.chat(server.url, "nothing", ASK)
