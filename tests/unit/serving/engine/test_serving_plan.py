"""The plan and the settings computed from it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from cluster.billing.prices import CPU_CORE_USD_PER_HOUR, price_of
from cluster.machine.hardware import Gpu, detect
from runspec.errors import ServingError
from runspec.publish import ServingSpec
from serving.engine.settings import deployment_settings, engine_arguments, environment, llm_config_fields
from serving.plan import (
    GIB,
    ServePlan,
    check_base_name,
    check_lengths,
    check_memory,
    choose_dtype,
    memory_needed,
    replica_price,
    weights_bytes,
)


def make_plan(folder: Path, **changes: Any) -> ServePlan:
    spec = ServingSpec(**changes.pop("spec", {}))
    plan = ServePlan(folder, "folder:abc", "base", "/store", spec, "cpu", "float32", cores=4)
    return dataclasses.replace(plan, **changes)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text(json.dumps({"dtype": "bfloat16"}))
    (tmp_path / "model.safetensors").write_bytes(b"0" * 1000)
    return tmp_path


@pytest.mark.parametrize(
    ("accelerator", "has_bfloat16", "dtype"),
    [
        ("cpu", True, "bfloat16"),
        ("cpu", False, "float32"),
        ("gpu", True, "bfloat16"),
        ("gpu", False, "float16"),
    ],
)
def test_the_number_format_follows_the_hardware(accelerator: Any, has_bfloat16: bool, dtype: str) -> None:
    assert choose_dtype(accelerator, multiplies_bfloat16=has_bfloat16) == dtype


def test_weights_grow_with_the_number_format(model: Path) -> None:
    assert weights_bytes(model, "bfloat16") == 1000
    assert weights_bytes(model, "float32") == 2000


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ServingError, match="not a model folder"):
        weights_bytes(tmp_path, "float32")


def test_too_little_memory_is_refused_with_both_figures(model: Path) -> None:
    plan = make_plan(model, spec={"kv_cache_gib": 4})
    with pytest.raises(ServingError, match=r"needs about 6\.8 GiB of memory, but only 2\.0 GiB are free") as caught:
        check_memory(plan, 2 * GIB)
    assert "kv_cache_gib: 4" in caught.value.where
    check_memory(plan, 8 * GIB)


def test_every_replica_needs_its_own_memory(model: Path) -> None:
    one = memory_needed(make_plan(model), 1)
    two = memory_needed(make_plan(model), 2)
    assert two > 1.5 * one


def test_replicas_that_could_not_be_added_are_warned_of(model: Path, caplog: pytest.LogCaptureFixture) -> None:
    check_memory(make_plan(model, spec={"max_replicas": 4}), 6 * GIB)
    assert "serving.max_replicas is 4" in caplog.text
    assert "only 6.0 GiB are free" in caplog.text
    caplog.clear()
    check_memory(make_plan(model, spec={"max_replicas": 1}), 6 * GIB)
    assert caplog.text == ""


def test_main_memory_is_not_checked_on_a_gpu(model: Path) -> None:
    check_memory(make_plan(model, accelerator="gpu", dtype="bfloat16"), 0)


def test_a_conversation_must_fit_the_cache_and_the_model(model: Path) -> None:
    shape = {"num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3, "hidden_size": 576}
    (model / "config.json").write_text(json.dumps(shape | {"max_position_embeddings": 8192}))
    check_lengths(make_plan(model, spec={"kv_cache_gib": 0.1, "max_model_len": 2048}))
    with pytest.raises(ServingError, match=r"One conversation of 4096 tokens needs 0\.18 GiB of key-value cache"):
        check_lengths(make_plan(model, spec={"kv_cache_gib": 0.1, "max_model_len": 4096}))
    with pytest.raises(ServingError, match=r"reads at most 8192 tokens, but serving\.max_model_len is 9000"):
        check_lengths(make_plan(model, spec={"max_model_len": 9000}))
    (model / "config.json").write_text("{}")
    check_lengths(make_plan(model, spec={"max_model_len": 9000}))


@pytest.mark.parametrize("name", ["base:v1", "base@v1", "", "-x", "a b"])
def test_names_that_clients_or_ray_could_not_use_are_refused(name: str) -> None:
    with pytest.raises(ServingError, match="is not a valid name for the base model"):
        check_base_name(name)


def test_hub_ids_may_name_the_base() -> None:
    check_base_name("HuggingFaceTB/SmolLM2-135M-Instruct")


def test_adapters_share_batches_and_wait_in_memory(model: Path) -> None:
    arguments = engine_arguments(make_plan(model, spec={"max_adapters": 40, "max_rank": 64}))
    assert arguments["max_loras"] == 16
    assert arguments["max_cpu_loras"] == 40
    assert arguments["max_lora_rank"] == 64
    assert engine_arguments(make_plan(model, spec={"max_adapters": 3}))["max_loras"] == 3


def test_the_cache_is_exact_on_cpu_and_left_to_vllm_on_gpu(model: Path) -> None:
    on_cpu = engine_arguments(make_plan(model, spec={"kv_cache_gib": 0.5}))
    assert on_cpu["kv_cache_memory_bytes"] == GIB // 2
    assert on_cpu["enforce_eager"] is True
    assert on_cpu["worker_extension_cls"] == "serving.engine.vllm_cpu_lora.WorkerExtension"
    on_gpu = engine_arguments(make_plan(model, accelerator="gpu", dtype="bfloat16"))
    assert "kv_cache_memory_bytes" not in on_gpu
    assert "enforce_eager" not in on_gpu
    assert "worker_extension_cls" not in on_gpu


def test_a_chat_template_of_the_run_file_is_used(model: Path) -> None:
    plan = make_plan(model, chat_template=Path("/t.jinja"))
    assert engine_arguments(plan)["chat_template"] == "/t.jinja"
    assert "chat_template" not in engine_arguments(make_plan(model))


def test_one_replica_does_not_scale(model: Path) -> None:
    settings = deployment_settings(make_plan(model))
    assert settings["num_replicas"] == 1
    assert "autoscaling_config" not in settings


def test_scaling_has_a_target_below_a_replicas_limit(model: Path) -> None:
    settings = deployment_settings(make_plan(model, spec={"max_replicas": 3, "max_ongoing_requests": 20}))
    scaling = settings["autoscaling_config"]
    assert (scaling["min_replicas"], scaling["max_replicas"]) == (1, 3)
    assert 0 < scaling["target_ongoing_requests"] < settings["max_ongoing_requests"] == 20
    assert settings["max_queued_requests"] == 60


def test_scaling_follows_the_run_file(model: Path) -> None:
    spec = {"max_replicas": 2, "target_ongoing_requests": 5, "scale_up_after_s": 4, "scale_down_after_s": 60}
    settings = deployment_settings(make_plan(model, spec=spec | {"max_queued_requests": 7}))
    scaling = settings["autoscaling_config"]
    assert (scaling["target_ongoing_requests"], scaling["upscale_delay_s"], scaling["downscale_delay_s"]) == (5, 4, 60)
    assert settings["max_queued_requests"] == 7


@pytest.mark.parametrize(("up", "down"), [(0, 0), (1, 300), (10, 300), (60, 5), (600, 600)])
def test_the_load_is_measured_often_enough_for_the_delays(model: Path, up: float, down: float) -> None:
    spec = {"max_replicas": 2, "scale_up_after_s": up, "scale_down_after_s": down}
    scaling = deployment_settings(make_plan(model, spec=spec))["autoscaling_config"]
    assert 0.5 <= scaling["metrics_interval_s"] <= max(0.5, min(up, down) / 2)
    assert 2 * scaling["metrics_interval_s"] < scaling["look_back_period_s"] <= 30


@pytest.mark.parametrize(
    ("host", "setting", "asked"),
    [
        ("127.0.0.1", "auto", False),
        ("127.0.0.5", "auto", False),
        ("::1", "auto", False),
        ("localhost", "auto", False),
        ("0.0.0.0", "auto", True),
        ("::", "auto", True),
        ("10.0.0.7", "auto", True),
        ("gpu-box", "auto", True),
        ("127.0.0.1.example.org", "auto", True),
        ("127.0.0.1", "required", True),
        ("0.0.0.0", "off", False),
    ],
)
def test_when_a_key_is_required(model: Path, host: str, setting: str, asked: bool) -> None:
    assert make_plan(model, spec={"host": host, "api_keys": setting}).asks_for_keys is asked


def test_a_replica_costs_its_share() -> None:
    machine = detect().model_copy(update={"cores": 8, "gpus": ()})
    spec = ServingSpec(max_replicas=4)
    share = replica_price(machine, spec, "cpu", None)
    assert share.usd_per_hour == pytest.approx(8 * CPU_CORE_USD_PER_HOUR / 4)
    assert "shared by 4 replicas" in share.source
    given = replica_price(machine, spec, "cpu", 2.0)
    assert (given.usd_per_hour, given.source) == (0.5, "run file, shared by 4 replicas")
    card = Gpu(name="NVIDIA L4", memory_bytes=24 * GIB, compute_capability=8.9)
    one = replica_price(machine.model_copy(update={"gpus": (card,) * 4}), spec, "gpu", None)
    assert one == price_of(machine.model_copy(update={"gpus": (card,)}), 1, None)
    assert replica_price(machine.model_copy(update={"gpus": (card,)}), spec, "cpu", None) == share


def test_replicas_share_the_cores(model: Path) -> None:
    plan = make_plan(model, spec={"max_replicas": 2}, cores=8)
    assert environment(plan)["OMP_NUM_THREADS"] == "3"
    assert environment(make_plan(model, cores=1))["OMP_NUM_THREADS"] == "1"
    assert llm_config_fields(plan)["placement_group_config"] == {"bundle_per_worker": {"CPU": 4}}
    on_gpu = make_plan(model, accelerator="gpu", dtype="bfloat16")
    assert llm_config_fields(on_gpu)["placement_group_config"]["bundle_per_worker"]["GPU"] == 1


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:9000"),
        ("0.0.0.0", "http://127.0.0.1:9000"),
        ("::1", "http://[::1]:9000"),
        ("gpu-box", "http://gpu-box:9000"),
    ],
)
def test_the_url_can_be_opened(model: Path, host: str, url: str) -> None:
    assert make_plan(model, spec={"host": host, "port": 9000}).url == url
