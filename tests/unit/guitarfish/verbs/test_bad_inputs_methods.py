"""Bad input to methods, strategies and pairs: refused with its place and the way out, exit code 2, no traceback."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from guitarfish.__main__ import run

GOOD: dict[str, Any] = {
    "name": "my-run",
    "model": {"source": {"kind": "hub", "id": "some/model"}},
    "data": {"source": {"kind": "file", "path": "data.jsonl"}},
}
PAIR = {"prompt": "?", "chosen": "yes", "rejected": "no"}
LABELLED = {"prompt": "?", "completion": "yes", "label": True}
CHAT = {"prompt": "?", "completion": "yes"}


def rows(row: dict[str, Any], count: int = 40) -> str:
    return "".join(json.dumps(row | {"prompt": f"{number}{row.get('prompt', '')}"}) + "\n" for number in range(count))


BAD_FILES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "beta 0": ({"method": {"kind": "dpo", "beta": 0}}, ["method.beta", "more than 0"]),
    "beta of sft": (
        {"method": {"kind": "sft", "beta": 0.1}},
        ["Unknown key `method.beta` for kind `sft`.", "Set `kind: dpo`, which has `beta`."],
    ),
    "packing of dpo": (
        {"method": {"kind": "dpo", "packing": "on"}},
        ["Unknown key `method.packing`", "Set `kind: sft`"],
    ),
    "misspelt method": ({"method": {"kind": "dpoo"}}, ["method.kind", "Did you mean `dpo`?"]),
    "weight of kto": ({"method": {"kind": "kto", "desirable_weight": -1}}, ["method.desirable_weight"]),
    "dpo on chats": (
        {"method": {"kind": "dpo"}, "data": GOOD["data"] | {"layout": "messages"}},
        ["`data.layout` is messages", "`method.kind` is dpo", "preference"],
    ),
    "sft on pairs": (
        {"data": GOOD["data"] | {"layout": "preference"}},
        ["`data.layout` is preference", "`method.kind` is sft"],
    ),
    "kto on pairs": (
        {"method": {"kind": "kto"}, "data": GOOD["data"] | {"layout": "preference"}},
        ["`data.layout` is preference", "`method.kind` is kto", "labelled"],
    ),
    "start from a path": ({"lora": {"start_from": "./adapters/x"}}, ["lora.start_from"]),
    "misspelt strategy": ({"strategy": {"kind": "zero4"}}, ["strategy.kind", "zero2, zero3"]),
    "strategy of DeepSpeed's own": ({"strategy": {"kind": "deepspeed"}}, ["strategy.kind", "zero3"]),
    "offload of ddp": (
        {"strategy": {"kind": "ddp", "offload_optimizer": True}},
        ["Unknown key `strategy.offload_optimizer`", "Set `kind: zero2`"],
    ),
    "parameters of zero2": (
        {"strategy": {"kind": "zero2", "offload_parameters": True}},
        ["Unknown key `strategy.offload_parameters`", "Set `kind: zero3`"],
    ),
    "device_map with workers": (
        {"strategy": {"kind": "device_map"}, "hardware": {"workers": 2}},
        ["`strategy.kind` is device_map", "`hardware.workers` is 2", "`hardware.gpus_per_worker: 2`"],
    ),
    "several GPUs of a ddp worker": (
        {"strategy": {"kind": "ddp"}, "hardware": {"gpus_per_worker": 2}},
        ["`hardware.gpus_per_worker` is 2", "`strategy.kind` is ddp", "device_map"],
    ),
    "several GPUs of a zero3 worker": (
        {"strategy": {"kind": "zero3"}, "hardware": {"gpus_per_worker": 4}},
        ["`hardware.gpus_per_worker` is 4", "Set `hardware.workers: 4`"],
    ),
    "no GPUs": ({"hardware": {"gpus_per_worker": 0}}, ["hardware.gpus_per_worker"]),
    "zero3 over bytes": (
        {
            "strategy": {"kind": "zero3"},
            "model": GOOD["model"] | {"quantization": {"kind": "nf4", "storage": "uint8"}},
        },
        ["`strategy.kind` is zero3", "`model.quantization.storage` uint8", "bfloat16"],
    ),
    "negative reserve": ({"strategy": {"kind": "device_map", "reserve_gib": -1}}, ["strategy.reserve_gib"]),
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data.jsonl").write_text(rows(CHAT))
    return tmp_path


def write(folder: Path, sections: dict[str, Any]) -> str:
    (folder / "run.yaml").write_text(json.dumps(GOOD | sections, indent=1))
    return "run.yaml"


def refused(arguments: list[str], capfd: pytest.CaptureFixture[str], words: list[str]) -> None:
    assert run(arguments) == 2
    shown = capfd.readouterr().err
    assert "Traceback" not in shown
    for word in words:
        assert word in shown


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_run_file_is_refused(name: str, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    sections, words = BAD_FILES[name]
    refused(["check", write(folder, sections), "--data-only"], capfd, ["run.yaml", *words])


BAD_DATA: dict[str, tuple[str, str, list[str]]] = {
    "chats for dpo": ("dpo", rows(CHAT), ["not in layout preference", "preference needs chosen, rejected"]),
    "pairs for kto": ("kto", rows(PAIR), ["not in layout labelled", "labelled needs prompt, completion, label"]),
    "pairs for sft": ("sft", rows(PAIR), ["no known layout", "Columns found: prompt, chosen, rejected"]),
    "nearly a pair": (
        "dpo",
        rows(PAIR).replace("rejected", "Rejected"),
        ["Rename the column 'Rejected' to 'rejected'"],
    ),
    "equal answers": ("orpo", rows(PAIR | {"rejected": "yes"}), ["says the same as chosen", "data.jsonl:1"]),
    "odd label": ("kto", rows(LABELLED | {"label": "perhaps"}), ["label", "write true for a good answer"]),
    "all held out are bad": ("kto", rows(LABELLED | {"label": False}), ["held-out rows are labelled bad"]),
}


@pytest.mark.parametrize("name", BAD_DATA)
def test_bad_data_is_refused(name: str, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    kind, text, words = BAD_DATA[name]
    (folder / "data.jsonl").write_text(text)
    refused(["check", write(folder, {"method": {"kind": kind}}), "--data-only"], capfd, words)


BAD_CALLS: dict[str, tuple[list[str], list[str]]] = {
    "no folder": ([], ["--out"]),
    "cold": (["--out", "pairs", "--temperature", "0"], ["--temperature is 0", "above 0"]),
    "no sample": (["--out", "pairs", "--samples", "0"], ["--samples"]),
    "unknown metric": (
        ["--out", "pairs", "--metric", "bleu"],
        ["`bleu` is not a metric that scores answers", "exact_match"],
    ),
    "loss scores no answer": (["--out", "pairs", "--metric", "loss"], ["`loss` is not a metric that scores answers"]),
    "there already": (["--out", "there"], ["already exists", "Name another folder"]),
    "no such adapter": (["--out", "pairs", "--adapter", "nobody"], ["nobody"]),
}


@pytest.mark.parametrize("name", BAD_CALLS)
def test_a_bad_call_of_pairs_is_refused(name: str, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    arguments, words = BAD_CALLS[name]
    (folder / "there").mkdir()
    (folder / "there" / "pairs.jsonl").write_text("")
    refused(["pairs", write(folder, {}), *arguments], capfd, words)
