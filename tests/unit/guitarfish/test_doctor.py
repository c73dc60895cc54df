"""`guitarfish doctor`: what follows from each lack, and that it looks without breaking anything."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

import cluster.storage
from cluster.hardware import Gpu, Hardware
from guitarfish.__main__ import run
from guitarfish.capabilities import abilities
from guitarfish.diagnosis import GIB, PACKAGES, Machine, diagnose, look
from runspec.errors import StoreError

GPU_BOX = Machine(
    hardware=Hardware(
        cpu="A CPU",
        cores=32,
        memory_bytes=128 * GIB,
        machine_cores=32,
        machine_memory_bytes=128 * GIB,
        instructions=("avx2", "avx512", "avx512_bf16"),
        gpus=(Gpu(name="NVIDIA GeForce RTX 4090", memory_bytes=24 * GIB, compute_capability=8.9),),
    ),
    memory_free_bytes=100 * GIB,
    shared_memory_bytes=64 * GIB,
    disk_free_bytes={"/data": 500 * GIB},
    python="3.12.1",
    versions=dict.fromkeys(PACKAGES, "1.0"),
    compiler="cc",
    open_files=65536,
    store="./store",
    store_problem="",
    store_fix="",
)


def test_nothing_is_lacking() -> None:
    assert diagnose(GPU_BOX) == []


@pytest.mark.parametrize(
    ("change", "what", "rules_out"),
    [
        ({"versions": {**GPU_BOX.versions, "vllm": None}}, "vllm", "no serving"),
        ({"versions": {**GPU_BOX.versions, "trl": None}}, "trl", "no training"),
        ({"versions": {**GPU_BOX.versions, "torch": "2.13.0+cpu"}}, "a torch for the GPUs", "idle"),
        ({"store_problem": "No bucket.", "store_fix": "Make it."}, "store", "no run can start"),
        ({"memory_free_bytes": GIB}, "memory", "6 GiB"),
        ({"shared_memory_bytes": 2**26}, "shared memory", "slow"),
        ({"disk_free_bytes": {"/data": GIB}}, "/data", "may not fit"),
        ({"open_files": 1024}, "open files", "Ray"),
        ({"compiler": None}, "C compiler", "torch.compile"),
    ],
)
def test_each_lack_says_what_it_rules_out(change: dict[str, object], what: str, rules_out: str) -> None:
    (lack,) = diagnose(dataclasses.replace(GPU_BOX, **change))  # type: ignore[arg-type]
    assert what in lack.what
    assert rules_out in lack.rules_out
    assert lack.fix


def test_cpu_only() -> None:
    hardware = GPU_BOX.hardware.model_copy(update={"gpus": (), "instructions": ()})
    lacks = [lack.what for lack in diagnose(dataclasses.replace(GPU_BOX, hardware=hardware))]
    assert lacks == ["a GPU", "AVX2", "AVX-512 BF16 and AMX"]


def test_this_machine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", "--json", "--store", str(tmp_path / "store")]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["machine"]["hardware"]["cores"] >= 1
    assert found["machine"]["store_problem"] == ""
    assert not [file for file in (tmp_path / "store").rglob(".probe/*") if file.is_file()]


def test_store_that_cannot_be_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert run(["doctor", "--store", str(tmp_path / "file")]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "no run can start" in out


def test_the_fix_is_the_errors_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(uri: str) -> None:
        raise StoreError(f"{uri} is unusual.\n  fix: this is not the fix", where=uri, fix="Make the bucket.")

    monkeypatch.setattr(cluster.storage, "open_store", refuse)
    lack = next(lack for lack in diagnose(look("s3://x")) if "s3://x" in lack.what)
    assert lack.fix == "Make the bucket."


def test_what_cannot_run_here() -> None:
    """On one 24 GB card: no layers over several, 8 B in plain weights but not 70 B in four bits."""
    found = {each.what: each for each in abilities(GPU_BOX)}
    assert found["strategy ddp"].here == found["serving"].here == "yes"
    assert "one" in found["strategy device_map"].why
    assert "nothing to share out" in found["strategy zero3"].why
    assert found["largest model with nf4"].here.startswith("Qwen3-")
    assert "on a card of 24.0 GiB" in found["largest model with nf4"].why


@pytest.mark.parametrize(
    ("versions", "gpus", "what", "here", "why"),
    [
        ({"deepspeed": None}, None, "strategy zero3", "no", "DeepSpeed is not installed"),
        ({"flash-attn": None}, None, "attention flash_attention_2", "no", "flash-attn is not installed"),
        ({"vllm": "0.32.0 (CPU build)"}, None, "serving", "on CPU", "GPUs stay idle"),
        ({"bitsandbytes": None}, None, "quantization nf4", "no", "bitsandbytes"),
        ({"trl": None}, None, "strategy ddp", "no", "trl"),
        ({}, (), "method packing on", "no", "flash_attention_2"),
        ({}, (), "offloading", "no", "no GPU"),
        ({}, (7.5,), "dtype bfloat16", "slowly", "7.5"),
        ({}, (8.9, 8.9), "strategy device_map", "yes", ""),
    ],
)
def test_each_inability_says_why(
    versions: dict[str, str | None], gpus: tuple[float, ...] | None, what: str, here: str, why: str
) -> None:
    hardware = GPU_BOX.hardware
    if gpus is not None:
        one = hardware.gpus[0]
        made = tuple(one.model_copy(update={"compute_capability": capability}) for capability in gpus)
        hardware = hardware.model_copy(update={"gpus": made})
    machine = dataclasses.replace(GPU_BOX, hardware=hardware, versions={**GPU_BOX.versions, **versions})
    found = next(each for each in abilities(machine) if each.what == what)
    assert found.here == here
    assert why in found.why
