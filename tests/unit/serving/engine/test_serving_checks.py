"""What is refused before anything starts, and the error responses."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.adapters import draft, write_adapter

from cluster.store.storage import open_store
from registry.adapters import Registry
from runspec.errors import RegistryError, ServingError, StoreError
from runspec.publish import ServingSpec
from serving.checks import check_adapters, check_port
from serving.door import answers
from serving.engine.adapters import check_folder, fetch_adapter
from serving.plan import ServePlan


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ServePlan:
    monkeypatch.setenv("GUITARFISH_CACHE", str(tmp_path / "cache"))
    store = str(tmp_path / "store")
    return ServePlan(tmp_path, "folder:abc", "base", store, ServingSpec(max_rank=16), "cpu", "float32", adapters=("a",))


def publish(plan: ServePlan, tmp_path: Path, name: str = "a", config: Any = None, digest: str = "folder:abc") -> None:
    folder = write_adapter(tmp_path / "adapter", **(config or {}))
    registry = Registry(open_store(plan.store))
    registry.promote(name, registry.publish(name, folder, draft(base_digest=digest)).version)


def test_a_port_in_use_is_refused() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ServingError, match=f"Cannot listen on 127.0.0.1:{port}") as caught:
            check_port("127.0.0.1", port)
    assert "--set serving.port" in caught.value.fix
    check_port("127.0.0.1", port)


def test_an_adapter_that_fits_is_fetched(plan: ServePlan, tmp_path: Path) -> None:
    publish(plan, tmp_path)
    check_adapters(plan)
    assert list((tmp_path / "cache" / "adapters").glob("a-1-*/adapter_model.safetensors"))


def test_a_missing_adapter_is_refused(plan: ServePlan) -> None:
    with pytest.raises(RegistryError, match="Adapter `a` not found"):
        check_adapters(plan)


def test_another_base_is_refused_with_both_digests(plan: ServePlan, tmp_path: Path) -> None:
    publish(plan, tmp_path, digest="gguf:0123")
    with pytest.raises(ServingError, match=r"trained on tiny \(gguf:0123\), but this server has base \(folder:abc\)"):
        check_adapters(plan)


def test_an_adapter_with_the_bases_name_is_refused(plan: ServePlan, tmp_path: Path) -> None:
    publish(plan, tmp_path, name="base")
    with pytest.raises(ServingError, match="are both named `base`"):
        check_adapters(plan)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"r": 8, "use_dora": True}, "use_dora: true"),
        ({"r": 8, "bias": "all"}, "bias: all"),
        ({"r": 8, "modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"r": 8, "rank_pattern": {"q_proj": 64}}, "rank 64 above serving.max_rank 16"),
    ],
)
def test_what_vllm_rejects_is_refused(plan: ServePlan, tmp_path: Path, config: Any, message: str) -> None:
    publish(plan, tmp_path, config=config)
    with pytest.raises(ServingError, match=message):
        check_adapters(plan)


def test_a_plain_adapter_passes(plan: ServePlan, tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": 16, "bias": "none", "modules_to_save": None}))
    check_folder("a@1", tmp_path, plan)


def test_a_damaged_copy_in_the_cache_is_fetched_again(plan: ServePlan, tmp_path: Path) -> None:
    publish(plan, tmp_path)
    registry = Registry(open_store(plan.store))
    _, folder = fetch_adapter(registry, "a", 1, plan)
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(b"changed")
        assert (fetch_adapter(registry, "a", 1, plan)[1] / name).read_bytes() == whole


def test_errors_in_openai_form() -> None:
    unknown = answers.of(RegistryError("Adapter `x` not found.", fix="Did you mean `y`?"), ["base", "y"])
    assert unknown.status == 404
    assert unknown.body["error"] == {
        "message": "Adapter `x` not found. Did you mean `y`? Served here: base, y.",
        "type": "invalid_request_error",
        "param": "model",
        "code": "model_not_found",
    }
    assert answers.of(ServingError("wrong base"), ["base"]).body["error"]["code"] == "model_not_served"
    assert answers.of(StoreError("cut off"), []).status == 503
    assert answers.busy(10).headers == {"Retry-After": "1"}
    assert answers.engine_error(503, "failed its canary", "x").body["error"]["code"] == "adapter_unavailable"
    assert answers.engine_error(400, "too long", "BadRequestError").status == 400
    assert answers.engine_error(502, "?", "x").status == 500


@pytest.mark.parametrize(
    ("fields", "asks"),
    [
        ({"prompt_logprobs": None, "echo": False, "logprobs": 5}, False),
        ({"prompt_logprobs": 0, "echo": False, "logprobs": None}, True),
        ({"prompt_logprobs": None, "echo": True, "logprobs": None}, False),
        ({"prompt_logprobs": None, "echo": True, "logprobs": 0}, True),
        ({"prompt_logprobs": None, "echo": False, "logprobs": True, "top_logprobs": 3}, False),
        ({"prompt_logprobs": None, "echo": True, "logprobs": False, "top_logprobs": 0}, True),
        ({}, False),
    ],
)
def test_requests_for_prompt_logprobs_are_refused(fields: dict[str, Any], asks: bool) -> None:
    assert (answers.refuse_prompt_logprobs(SimpleNamespace(**fields)) is not None) is asks


def test_long_lists_of_names_are_truncated() -> None:
    text = answers.of(RegistryError("no"), [f"n{number}" for number in range(500)]).message
    assert text.endswith("n19 and others.")
