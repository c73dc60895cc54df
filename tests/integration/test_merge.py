"""Merging: a tiny model's adapter becomes plain weights that transformers and vLLM load and that answer alike."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from support.adapters import draft
from support.tiny_model import write_rows, write_run_file, write_tiny_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from cluster.store.storage import open_store
from guitarfish.__main__ import run
from registry.adapters import Registry
from runspec.load import load_run, resolved
from runspec.model import FolderModel, ModelSpec
from training.curation.curated import store_curated
from training.model.base_model import materialise
from training.model.merging import MergeRecord
from training.run.preparation import prepare_data
from training.run.run_folder import TrainingFolder

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(600)]

RUN = "tiny-20260101-000000-0000"
TARGETS = ["q_proj", "v_proj", "up_proj", "down_proj"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model, an adapter of it, and a run of it without training in the store, each once."""
    made = tmp_path_factory.mktemp("merge")
    write_tiny_model(made / "model", heads=2)  # heads of 32: vLLM's CPU attention has no narrower ones
    write_rows(made / "rows.jsonl")
    spec = resolved(load_run(write_run_file(made)))
    store = open_store(spec.store)
    store.create(f"runs/{RUN}/spec.json", spec.model_dump_json().encode())
    store_curated(TrainingFolder(store, RUN), prepare_data(spec, made))
    publish(made, "tiny", write_adapter(made, "adapter"), run_id=RUN)
    return made


def write_adapter(folder: Path, name: str, **config: Any) -> Path:
    """An adapter with weights by chance, far from doing nothing."""
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_pretrained(folder / "model")
    settings = {"r": 4, "lora_alpha": 8, "target_modules": TARGETS, **config}
    tuned = get_peft_model(model, LoraConfig(**settings))
    for key, parameter in tuned.named_parameters():
        if "lora_B" in key:
            torch.nn.init.normal_(parameter, std=0.3)
    tuned.save_pretrained(folder / name, save_embedding_layers=False)
    return folder / name


def publish(folder: Path, name: str, adapter: Path, **card: Any) -> None:
    base = materialise(ModelSpec(source=FolderModel(path=str(folder / "model"))), folder)
    values = {
        "base_model": base.label,
        "base_digest": base.digest,
        "base_kind": base.kind,
        "rank": 4,
        "alpha": 8,
        "targets": TARGETS,
    }
    registry = Registry(open_store(str(folder / "store")))
    registry.promote(name, registry.publish(name, adapter, draft(**(values | card))).version)


def merge(folder: Path, *arguments: str, code: int = 0) -> None:
    assert run(["merge", *arguments, "--store", str(folder / "store")]) == code


def logits(model: Any, text: str, tokenizer: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(**tokenizer(text, return_tensors="pt")).logits[0].float()


def test_the_merged_model_is_the_tuned_model(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = folder / "merged"
    merge(folder, "tiny", str(out), "--json")
    record = MergeRecord.model_validate_json(capsys.readouterr().out)
    assert record == MergeRecord.model_validate_json((out / "guitarfish-merge.json").read_text())
    assert record.parity.problems == []
    assert record.parity.adapter_kl > 100 * record.parity.mean_kl > 0
    assert record.parity.texts == 24  # 12 held-out rows of the run, 12 general prompts
    tokenizer = AutoTokenizer.from_pretrained(out)
    assert tokenizer.chat_template
    merged = AutoModelForCausalLM.from_pretrained(out)
    assert merged.dtype == torch.bfloat16
    base = AutoModelForCausalLM.from_pretrained(folder / "model")
    alone = logits(base, "turn on the lamp", tokenizer)
    tuned = logits(PeftModel.from_pretrained(base, folder / "adapter"), "turn on the lamp", tokenizer)
    ours = logits(merged, "turn on the lamp", tokenizer)
    assert (ours - tuned).abs().max() < 0.1 * (alone - tuned).abs().max()
    assert record.digest == materialise(ModelSpec(source=FolderModel(path=str(out))), folder).digest


def test_shards_float16_and_another_scaling(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    publish(folder, "scaled", write_adapter(folder, "scaled", use_rslora=True, alpha_pattern={"q_proj": 2}))
    out = folder / "sharded"
    given = ["--base", str(folder / "model"), "--dtype", "float16", "--max-shard-size", "100KB"]
    merge(folder, "scaled@1", str(out), *given)
    assert len(list(out.glob("*.safetensors"))) > 1
    assert AutoModelForCausalLM.from_pretrained(out).dtype == torch.float16
    assert "the same at" in capsys.readouterr().out


def test_an_update_of_a_tied_head_leaves_the_embedding_alone(folder: Path) -> None:
    publish(folder, "head", write_adapter(folder, "head", target_modules=["lm_head", "q_proj"]))
    merge(folder, "head", str(folder / "untied"), "--base", str(folder / "model"))
    merged = AutoModelForCausalLM.from_pretrained(folder / "untied", dtype=torch.float32)
    assert not torch.equal(merged.lm_head.weight, merged.model.embed_tokens.weight)


def test_a_merge_that_is_not_the_tuned_model_is_not_kept(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("peft.tuners.lora.Linear.get_delta_weight", lambda layer, adapter: torch.zeros(()))
    merge(folder, "tiny", str(folder / "bad"), code=1)
    assert "half of what the adapter does" in capsys.readouterr().err
    assert not (folder / "bad").exists()
    assert not list(folder.glob(".bad-*"))


def bad_inputs(folder: Path) -> dict[str, tuple[list[str], list[str]]]:
    """Arguments, and what the message holds."""
    (folder / "full").mkdir(exist_ok=True)
    (folder / "file").touch()
    write_tiny_model(folder / "other", heads=1)
    odd = folder / "odd"
    odd.mkdir(exist_ok=True)
    base = ["--base", str(folder / "model")]
    return {
        "unknown adapter": (["tniy", "out"], ["tniy", "tiny"]),
        "unknown version": (["tiny@7", "out"], ["7", "1"]),
        "unknown alias": (["tiny@staging", "out"], ["staging", "prod"]),
        "a folder that is there": (["tiny", str(folder / "full")], ["already exists", "does not exist yet"]),
        "a file in the way": (["tiny", str(folder / "file" / "out")], ["cannot be made"]),
        "no base to be found": (["homeless", "out"], ["was not found", "--base"]),
        "a base that is not there": (["homeless", "out", "--base", "./nowhere"], ["nowhere"]),
        "another base": (["homeless", "out", "--base", str(folder / "other")], ["was trained on", "but this is other"]),
        "DoRA": (["dora", "out", *base], ["use_dora: true", "merge_and_unload"]),
        "whole modules": (["modules", "out", *base], ["modules_to_save"]),
        "trained biases": (["bias", "out", *base], ["bias: all"]),
        "not 16 bits": (["tiny", "out", "--dtype", "float32"], ["float32", "bfloat16"]),
        "no size": (["tiny", "out", "--max-shard-size", "5 apples"], ["`5 apples` is not a file size", "5GB"]),
    }


def test_bad_input(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    publish(folder, "homeless", folder / "adapter", run_id="gone")
    for name, change in (("dora", {"use_dora": True}), ("modules", {"modules_to_save": ["norm"]}), ("bias", {})):
        publish(folder, name, write_adapter(folder, name, **change, bias="all" if name == "bias" else "none"))
    monkeypatch.chdir(folder)
    for case, (arguments, fragments) in bad_inputs(folder).items():
        merge(folder, *arguments, code=2)
        err = capsys.readouterr().err
        assert "Traceback" not in err, case
        assert "fix:" in err, f"{case}: {err}"
        for fragment in fragments:
            assert fragment in err, f"{case}: {err}"
    assert not (folder / "out").exists()
    assert not list(folder.glob(".*-*"))


def test_too_little_disk_or_memory(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from cluster.machine.hardware import detect

    small = detect().model_copy(update={"memory_bytes": 100_000})
    monkeypatch.setattr("training.model.merging.detect", lambda: small)
    merge(folder, "tiny", str(folder / "out"), code=2)
    assert "memory" in capsys.readouterr().err
    monkeypatch.setattr("training.model.merging.shutil.disk_usage", lambda path: SimpleNamespace(free=0))
    merge(folder, "tiny", str(folder / "out"), code=2)
    assert "are free" in capsys.readouterr().err


VLLM = """
import json, sys
from vllm import LLM, SamplingParams
llm = LLM(sys.argv[1], enforce_eager=True, dtype="bfloat16", max_model_len=128, max_num_seqs=4)
asked = [{"prompt_token_ids": ids} for ids in json.loads(sys.argv[2])]
found = llm.generate(asked, SamplingParams(max_tokens=1, temperature=0, logprobs=5), use_tqdm=False)
first = [one.outputs[0].logprobs[0] for one in found]
print("FOUND", json.dumps([[[token, each.logprob] for token, each in one.items()] for one in first]))
"""


@pytest.mark.soak
@pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="needs vllm")
def test_vllm_loads_the_merged_model(folder: Path) -> None:
    out = folder / "for-vllm"
    merge(folder, "tiny", str(out))
    tokenizer = AutoTokenizer.from_pretrained(out)
    prompts = [tokenizer(text).input_ids for text in ("turn on the lamp in the hall", "Paris is", "one two three")]
    settings = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_LOGGING_LEVEL": "ERROR", "VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
    command = [sys.executable, "-c", VLLM, str(out), json.dumps(prompts)]
    done = subprocess.run(command, env={**os.environ, **settings}, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(
        next(line for line in done.stdout.splitlines() if line.startswith("FOUND")).removeprefix("FOUND")
    )
    base = AutoModelForCausalLM.from_pretrained(folder / "model")
    tuned = PeftModel.from_pretrained(base, folder / "adapter")
    for ids, first in zip(prompts, found, strict=True):
        with torch.no_grad():
            expected = tuned(torch.tensor([ids])).logits[0, -1].log_softmax(-1)
        for token, logprob in first:
            assert logprob == pytest.approx(float(expected[int(token)]), abs=0.1)
