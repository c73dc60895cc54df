"""`guitarfish doctor`: the effect of whatever is missing, and that looking changes nothing."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from cluster.machine.hardware import Gpu, Hardware
from cluster.store.storage import open_store
from guitarfish.__main__ import run
from guitarfish.actions.diagnosis import PACKAGES, Machine, abilities, what_is_missing
from runspec.errors import StoreError
from training.planning.sites import GIB

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


def test_nothing_is_missing() -> None:
    assert what_is_missing(GPU_BOX) == []


@pytest.mark.parametrize(
    ("change", "what", "effect"),
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
def test_whatever_is_missing_has_an_effect_and_a_fix(change: dict[str, object], what: str, effect: str) -> None:
    (missing,) = what_is_missing(dataclasses.replace(GPU_BOX, **change))  # type: ignore[arg-type]
    assert what in missing.what
    assert effect in missing.effect
    assert missing.fix


def test_cpu_only() -> None:
    hardware = GPU_BOX.hardware.model_copy(update={"gpus": (), "instructions": ()})
    missing = [each.what for each in what_is_missing(dataclasses.replace(GPU_BOX, hardware=hardware))]
    assert missing == ["a GPU", "AVX2", "AVX-512 BF16 and AMX"]


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
    assert "missing effect fix" in out
    assert "no run can start" in out


def test_the_fix_of_a_store_is_its_own_whatever_its_path(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "fix: nothing"
    folder.mkdir()
    (folder / "file").write_text("")
    with pytest.raises(StoreError) as raised:
        open_store(str(folder / "file")).check()
    assert run(["doctor", "--json", "--store", str(folder / "file")]) == 0
    missing = json.loads(capsys.readouterr().out)["missing"]
    (store,) = [each for each in missing if "store" in each["what"]]
    assert store["fix"] == raised.value.fix
    assert raised.value.what in store["what"]


def test_what_cannot_run_here() -> None:
    """On one 24 GB card: no layers over several, 8 B in plain weights but not 70 B in four bits."""
    found = {each.what: each for each in abilities(GPU_BOX)}
    assert found["strategy ddp"].here == found["serving"].here == "yes"
    assert "one" in found["strategy device_map"].why
    assert "nothing to shard over" in found["strategy zero3"].why
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
