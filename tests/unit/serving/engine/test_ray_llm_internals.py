"""Says which of Ray's internals changed: serving depends on them, and Ray does not promise them."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
from pathlib import Path
from typing import Any

import pytest

if importlib.util.find_spec("vllm") is None or importlib.util.find_spec("ray") is None:
    pytest.skip("vLLM or Ray is not installed", allow_module_level=True)
# The first test that runs imports vLLM: most of a minute on a machine that is busy, or has no compiled Python files.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[4]
INTERNALS = "ray_llm_internals.py"
MOVED = (
    "Ray's internals have changed: {0}. serving/engine/ray_llm_internals.py was written for ray 2.60; read the new "
    "ray.llm._internal and fix that file."
)
INGRESS = "ray.llm._internal.serve.core.ingress.ingress:OpenAiIngress"
SERVER = "ray.llm._internal.serve.core.server.llm_server:LLMServer"
LOADER = "ray.llm._internal.serve.utils.lora_serve_utils:LoraModelLoader"
ENGINE = "ray.llm._internal.serve.engines.vllm.vllm_engine:VLLMEngine"
PARTS: dict[str, str] = {
    f"{INGRESS}._process_llm_request": "self body call_method raw_request",
    f"{INGRESS}._get_response": "self body call_method raw_request",
    f"{INGRESS}._get_model_id": "self model",
    f"{INGRESS}._get_configured_serve_handle": "self model_id",
    f"{INGRESS}.models": "self",
    f"{INGRESS}.model_data": "self model",
    f"{SERVER}._maybe_resolve_lora_from_multiplex": "self",
    f"{SERVER}.chat": "self request raw_request_info",
    f"{SERVER}.completions": "self request raw_request_info",
    f"{SERVER}.__init__": "self llm_config engine_cls model_downloader",
    f"{LOADER}.load_model_from_config": "self lora_model_id llm_config",
    f"{ENGINE}.resolve_lora": "self disk_lora_model",
    f"{ENGINE}.completions": "self request raw_request_info",
    "ray.serve._private.http_util:ASGIAppReplicaWrapper._set_asgi_app": "self app",
    "ray.llm._internal.common.callbacks.base:CallbackBase.on_before_node_init": "self",
    "ray.serve.handle:DeploymentHandle._init": "self kwargs",
}


@pytest.mark.parametrize("place", PARTS)
def test_internals_of_ray_are_unchanged(place: str) -> None:
    assert list(inspect.signature(find(place)).parameters) == PARTS[place].split(), MOVED.format(
        f"{place} has other parameters"
    )


@pytest.mark.parametrize(
    "call",
    [
        ("chat", "_run_request"),
        ("_run_request", "_maybe_resolve_lora_from_multiplex"),
        ("_init_multiplex_loader", "load_model_from_config"),
    ],
)
def test_ray_still_calls_what_we_override(call: tuple[str, str]) -> None:
    place, callee = call
    source = inspect.getsource(find(f"{SERVER}.{place}"))
    assert callee in source, MOVED.format(f"{place} no longer calls {callee}")


def test_the_gate_goes_around_the_whole_application() -> None:
    """Ray calls `_set_asgi_app` with all of it, and awaits `__del__` at the end."""
    wrapper = find("ray.serve._private.http_util:ASGIAppReplicaWrapper")
    source = inspect.getsource(wrapper.__init__)
    assert "self._set_asgi_app(app)" in source, MOVED.format("the application is set elsewhere")
    from ray import serve

    assert "await cls.__del__(self)" in inspect.getsource(serve.ingress), MOVED.format("`__del__` is not awaited")


def test_the_engine_can_report_its_counts_in_every_chunk() -> None:
    fields = find("vllm.entrypoints.generate.base.protocol:StreamOptions").model_fields
    assert {"include_usage", "continuous_usage_stats"} <= set(fields), "vLLM counts streamed tokens otherwise"


def test_an_adapters_place_on_disk_has_the_same_fields() -> None:
    from ray.llm._internal.serve.core.configs.llm_config import DiskMultiplexConfig

    fields = set(DiskMultiplexConfig.model_fields)
    wanted = {"model_id", "max_total_tokens", "local_path", "lora_assigned_int_id"}
    assert fields == wanted, MOVED.format(f"DiskMultiplexConfig has {sorted(fields)}")


def test_the_settings_make_a_valid_llm_config(tmp_path: Path) -> None:
    from ray.serve.llm import LLMConfig

    from runspec.publish import ServingSpec
    from serving.engine.settings import llm_config_fields
    from serving.plan import ServePlan

    plan = ServePlan(tmp_path, "folder:abc", "base", "/store", ServingSpec(max_replicas=2), "cpu", "float32", cores=2)
    config = LLMConfig(**llm_config_fields(plan))
    engine = config.get_engine_config()
    assert engine.get_initialization_kwargs()["max_loras"] == 8
    assert config.multiplex_config().max_num_models_per_replica == 8


def test_rows_of_the_base_model_get_no_adapter_on_cpu() -> None:
    """vLLM's own operator gives them the last slot's; a tenant's answers would reach others."""
    import torch
    from vllm.lora.ops.torch_ops import lora_ops
    from vllm.lora.punica_wrapper import punica_cpu

    importlib.import_module("serving.engine.vllm_cpu_lora")
    torch.manual_seed(0)
    inputs, weights_a, weights_b = torch.randn(4, 6), torch.randn(2, 1, 3, 6), torch.randn(2, 1, 5, 3)
    slots = torch.tensor([0, -1, 1, -1])
    lengths, starts = torch.tensor([1, 1, 1, 1]), torch.tensor([0, 1, 2, 3])
    for prefill in (False, True):
        shrunk, output = torch.zeros(4, 3), torch.zeros(4, 5)
        if prefill:
            lora_ops.sgmv_shrink(inputs, weights_a, shrunk, starts, lengths, slots, 4, 1, 4, 2.0)
            lora_ops.sgmv_expand(shrunk, weights_b, output, starts, lengths, slots, 4, 1, 4, True)
        else:
            punica_cpu.bgmv_shrink(inputs, weights_a, shrunk, slots, 2.0)
            punica_cpu.bgmv_expand(shrunk, weights_b, output, slots, True)
        assert output[[1, 3]].abs().max() == 0
        for row, slot in ((0, 0), (2, 1)):
            expected = 2.0 * weights_b[slot, 0] @ (weights_a[slot, 0] @ inputs[row])
            assert torch.allclose(output[row], expected, atol=1e-5)


def test_internals_are_used_in_one_file_only() -> None:
    rooms = ("guitarfish", "training", "serving", "registry", "cluster", "runspec")
    files = [file for room in rooms for file in (ROOT / room).rglob("*.py") if file.name != INTERNALS]
    users = [str(file.relative_to(ROOT)) for file in files if any("ray.llm._internal" in one for one in imported(file))]
    assert users == []


def imported(file: Path) -> list[str]:
    nodes = ast.walk(ast.parse(file.read_text()))
    return [
        name
        for node in nodes
        for name in (
            [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else []
        )
    ]


def find(place: str) -> Any:
    module, _, path = place.partition(":")
    try:
        found = importlib.import_module(module)
        for name in path.split("."):
            found = getattr(found, name)
    except (ImportError, AttributeError) as error:
        pytest.fail(MOVED.format(f"{place}: {error}"))
    return found
