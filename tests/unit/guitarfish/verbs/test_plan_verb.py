"""`guitarfish plan`: what it prints, that it is quick and downloads nothing, and what it refuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from guitarfish.__main__ import run

ROOT = Path(__file__).parents[4]
RUN = """\
name: planned
model: {source: {kind: hub, id: meta-llama/Llama-3.1-8B-Instruct}}
data: {source: {kind: file, path: data.jsonl}, max_length: 1024}
"""
MOE = {"model_type": "mixtral", "num_local_experts": 8, "hidden_size": 4096}
SMALL = {
    "model_type": "llama",
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "vocab_size": 100,
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a run file and 500 rows, in a home without models."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    (tmp_path / "run.yaml").write_text(RUN)
    row = {"prompt": "What is one plus one? " * 10, "completion": "two " * 20}
    (tmp_path / "data.jsonl").write_text((json.dumps(row) + "\n") * 500)
    return tmp_path


def planned(folder: Path, capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, Any]:
    assert run(["plan", str(folder / "run.yaml"), "--json", *options]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_table(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", str(folder / "run.yaml")]) == 0
    out = capsys.readouterr().out
    assert "meta-llama/Llama-3.1-8B-Instruct: 8.03 B parameters, 41.9 M trained" in out
    assert "450 rows" in out
    assert "this machine" in out
    assert "8x H100" in out
    assert "cheapest that fits" in out
    assert all(len(line) <= 100 for line in out.splitlines())


@pytest.mark.parametrize(("usd", "says"), [("1000", "enough"), ("0.0001", "not enough")])
def test_the_budget_is_laid_beside_the_estimates(
    folder: Path, usd: str, says: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert run(["plan", str(folder / "run.yaml"), "--hardware", "8x H100", "--set", f"budget.max_usd={usd}"]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("budget.max_usd: ")]
    assert f"is {says} on 8x H100, estimate $" in line
    assert planned(folder, capsys, "--set", f"budget.max_usd={usd}")["budget_usd"] == float(usd)


def test_named_hardware_shows_each_strategy(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", str(folder / "run.yaml"), "--hardware", "2x RTX 4090", "--host-memory", "64"]) == 0
    out = capsys.readouterr().out
    for name in ("ddp", "zero2", "zero3", "device_map", "zero3 + offload"):
        assert name in out
    assert "of 64" in out
    assert "this machine" not in out


def test_explain_prints_terms_that_add_up(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", str(folder / "run.yaml"), "--hardware", "H100", "--explain"]) == 0
    out = capsys.readouterr().out
    for name in (
        "NF4 weights",
        "scales",
        "AdamW",
        "activations",
        "active layer",
        "CUDA context",
        "peak",
        "evaluating",
    ):
        assert name in out
    assert "989 TFLOP/s x 0.35" in " ".join(out.split())


def test_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = planned(folder, capsys, "--hardware", "2x RTX 4090", "--set", "strategy.kind=zero3")
    first = found["rows"][0]
    assert first["strategy"]["kind"] == "zero3"
    training = next(phase for phase in first["phases"] if phase["name"] == "training")
    assert sum(term["bytes"] for term in training["card"]) <= first["card_bytes"]
    assert first["fits"] is True
    assert first["usd"] > 0


def test_config_of_a_model_that_is_not_known(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "config.json").write_text(json.dumps(SMALL))
    found = planned(folder, capsys, "--config", str(folder / "config.json"), "--set", "model.source.id=nobody/has-this")
    assert found["parameters"] < 1e6


def test_hub_data_needs_a_count(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hub = ["--set", "data.source={kind: hub, id: some/rows}", "--hardware", "L4"]
    assert all(row["hours"] is None for row in planned(folder, capsys, *hub)["rows"])
    assert all(row["hours"] > 0 for row in planned(folder, capsys, *hub, "--rows", "1000")["rows"])
    assert run(["plan", str(folder / "run.yaml"), *hub]) == 0
    assert "--rows N" in capsys.readouterr().out


def test_imports_nothing_heavy(folder: Path) -> None:
    code = (
        "import sys\nfrom guitarfish.__main__ import run\n"
        f"assert run(['plan', {str(folder / 'run.yaml')!r}, '--explain']) == 0\n"
        "heavy = [name for name in ('torch', 'ray', 'transformers', 'vllm', 'numpy') if name in sys.modules]\n"
        "assert not heavy, heavy\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment, timeout=30
    )
    assert done.returncode == 0, done.stderr


BAD: dict[str, tuple[list[str], list[str]]] = {
    "unknown model": (["--set", "model.source.id=nobody/has-this"], ["nobody/has-this", "--config"]),
    "misspelt model": (["--set", "model.source.id=meta-llama/Llama-3.1-7B-Instruct"], ["Did you mean"]),
    "no hub id": (["--set", "model.source.id=a/b/c"], ["`a/b/c`", "owner/name"]),
    "mixture of experts": (["--config", "moe.json"], ["mixture of experts", "num_local_experts: 8", "moe.json"]),
    "unknown family": (["--config", "mamba.json"], ["`mamba`", "model_type"]),
    "broken config": (["--config", "broken.json"], ["broken.json` is not JSON"]),
    "config is a list": (["--config", "list.json"], ["list.json` is a list"]),
    "missing key": (["--config", "lacking.json"], ["`num_hidden_layers` is missing"]),
    "no such config": (["--config", "nowhere.json"], ["nowhere.json` not found"]),
    "config is a folder": (["--config", "."], ["Cannot read"]),
    "no such folder": (["--set", "model.source={kind: folder, path: nowhere}"], ["'nowhere'"]),
    "folder without config": (["--set", "model.source={kind: folder, path: empty}"], ["config.json"]),
    "no GGUF": (["--set", "model.source={kind: gguf, path: data.jsonl}"], ["data.jsonl", "`GGUF`"]),
    "unknown hardware": (["--hardware", "2x RTX 5099"], ["`RTX 5099`", "The catalogue has RTX 3090"]),
    "misspelt hardware": (["--hardware", "2x RTX 490"], ["Did you mean `RTX 4090`"]),
    "no hardware": (["--hardware", "0x H100"], ["is not hardware", "2x RTX 4090"]),
    "empty hardware": (["--hardware", " "], ["is not hardware"]),
    "no rows": (["--rows", "0"], ["--rows is 0"]),
    "no memory": (["--host-memory", "-3"], ["--host-memory is -3"]),
    "memory is not a number": (["--host-memory", "nan"], ["--host-memory is nan"]),
    "no data": (["--set", "data.source.path=nowhere.jsonl"], ["nowhere.jsonl"]),
    "empty data": (["--set", "data.source.path=empty.jsonl"], ["no row", "data.source"]),
    "unknown target": (["--set", "lora.targets=[q_prj]"], ["`q_prj`", "lora.targets", "q_proj"]),
    "device_map with workers": (
        ["--set", "strategy.kind=device_map", "--set", "hardware.workers=2"],
        ["device_map", "`hardware.gpus_per_worker: 2`"],
    ),
    "sharded bytes": (
        ["--set", "strategy.kind=zero3", "--set", "model.quantization.storage=uint8"],
        ["zero3", "uint8", "bfloat16"],
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(
    case: str, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    options, fragments = BAD[case]
    monkeypatch.chdir(folder)
    (folder / "empty").mkdir()
    (folder / "empty.jsonl").write_text("")
    (folder / "broken.json").write_text("{")
    (folder / "list.json").write_text("[]")
    (folder / "moe.json").write_text(json.dumps(MOE))
    (folder / "mamba.json").write_text(json.dumps({**SMALL, "model_type": "mamba"}))
    (folder / "lacking.json").write_text(json.dumps({**SMALL, "num_hidden_layers": None}))
    assert run(["plan", "run.yaml", *options]) == 2
    err = capsys.readouterr().err
    assert "Traceback" not in err
    assert "where:" in err
    assert "fix:" in err
    for fragment in fragments:
        assert fragment in err
