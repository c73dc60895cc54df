"""Shapes of models: counts that are published, families that differ, and configs that cannot be read."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from runspec.errors import ModelError
from runspec.lora import LoraSpec
from runspec.model import FolderModel, GgufModel, HubModel, ModelSpec
from training.planning.gguf_header import read_gguf_config
from training.planning.shape_sources import find_shape, known_models
from training.planning.shapes import shape_from_config

SMALL: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 100,
    "tie_word_embeddings": True,
    "max_position_embeddings": 512,
}


@pytest.mark.parametrize(
    ("name", "billions"),
    [
        ("HuggingFaceTB/SmolLM2-135M-Instruct", 0.134515),
        ("HuggingFaceTB/SmolLM2-360M", 0.361821),
        ("HuggingFaceTB/SmolLM2-1.7B", 1.711376),
        ("meta-llama/Llama-3.2-1B", 1.235814),
        ("meta-llama/Llama-3.2-3B", 3.212750),
        ("meta-llama/Llama-3.1-8B-Instruct", 8.030261),
        ("meta-llama/Llama-3.3-70B-Instruct", 70.553706),
        ("meta-llama/Llama-2-7b-hf", 6.738415),
        ("Qwen/Qwen2.5-0.5B", 0.494033),
        ("Qwen/Qwen2.5-7B-Instruct", 7.615617),
        ("Qwen/Qwen2.5-72B", 72.706204),
        ("Qwen/Qwen3-0.6B", 0.596050),
        ("Qwen/Qwen3-8B", 8.190735),
        ("mistralai/Mistral-7B-v0.1", 7.241732),
        ("microsoft/phi-4", 14.659507),
    ],
)
def test_counts_are_those_that_are_published(name: str, billions: float) -> None:
    assert known_models()[name].parameters / 1e9 == pytest.approx(billions, abs=1e-6)


def test_seventy_billion() -> None:
    shape = known_models()["meta-llama/Llama-3.3-70B-Instruct"]
    assert shape.linear / 1e9 == pytest.approx(68.45, abs=0.01)
    assert shape.adapter(LoraSpec()) == 207_093_760  # rank 16 on all linear layers
    assert shape.adapter(LoraSpec(rank=32)) == 2 * 207_093_760


def test_every_known_model_can_be_adapted() -> None:
    for shape in known_models().values():
        assert shape.adapter(LoraSpec(targets="all-linear")) > 0


def test_parameters_add_up() -> None:
    shape = shape_from_config(SMALL, label="small", where="here")
    attention = 64 * 64 + 2 * 64 * 32 + 64 * 64
    assert shape.layer_linear == attention + 3 * 64 * 128
    assert shape.parameters == 2 * (shape.layer_linear + 2 * 64) + 100 * 64 + 64
    untied = shape_from_config({**SMALL, "tie_word_embeddings": False}, label="small", where="here")
    assert untied.parameters == shape.parameters + 100 * 64


def test_targets_and_dora() -> None:
    shape = shape_from_config(SMALL, label="small", where="here")
    assert shape.adapter(LoraSpec(rank=4, targets=("q_proj",))) == 2 * 4 * (64 + 64)
    assert shape.adapter(LoraSpec(rank=4, targets=("q_proj",), dora=True)) == 2 * (4 * (64 + 64) + 64)
    with pytest.raises(ModelError, match="`qkv`") as raised:
        shape.adapter(LoraSpec(targets=("qkv",)))
    assert "q_proj" in raised.value.fix


def test_families_differ() -> None:
    fused = shape_from_config({**SMALL, "model_type": "phi3"}, label="phi", where="here")
    assert set(fused.linears) == {"qkv_proj", "o_proj", "gate_up_proj", "down_proj"}
    biased = shape_from_config({**SMALL, "model_type": "qwen2"}, label="qwen", where="here")
    plain = shape_from_config(SMALL, label="small", where="here")
    assert biased.parameters - plain.parameters == 2 * (64 + 32 + 32)
    inner = shape_from_config({"text_config": SMALL, "model_type": "some_vision"}, label="vision", where="here")
    assert inner.parameters == plain.parameters


@pytest.mark.parametrize(
    ("change", "fragments"),
    [
        ({"num_local_experts": 8}, ["mixture of experts", "num_local_experts: 8"]),
        ({"model_type": "mamba"}, ["`mamba`", "llama, mistral"]),
        ({"model_type": None}, ["family `None`"]),
        ({"hidden_size": None}, ["`hidden_size` is missing"]),
        ({"hidden_size": 0}, ["hidden_size", "0"]),
        ({"num_hidden_layers": "many"}, ["num_hidden_layers", "'many'"]),
        ({"vocab_size": True}, ["vocab_size", "True"]),
        ({"intermediate_size": -3}, ["intermediate_size", "-3"]),
    ],
)
def test_configs_that_cannot_be_read(change: dict[str, Any], fragments: list[str]) -> None:
    with pytest.raises(ModelError) as raised:
        shape_from_config({**SMALL, **change}, label="odd", where="config.json")
    for fragment in fragments:
        assert fragment in str(raised.value)
    assert raised.value.where.startswith("config.json")
    assert raised.value.fix


def test_folder(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(json.dumps(SMALL))
    shape = find_shape(ModelSpec(source=FolderModel(path="model")), tmp_path)
    assert (shape.label, shape.hidden) == ("model", 64)


def test_a_model_that_is_not_known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match=r"Llama-3\.3-8B") as raised:
        find_shape(ModelSpec(source=HubModel(id="meta-llama/Llama-3.3-8B")), tmp_path)
    assert "Did you mean `meta-llama/Llama-3." in raised.value.fix
    assert "--config" in raised.value.fix
    with pytest.raises(ModelError, match="not a model id"):
        find_shape(ModelSpec(source=HubModel(id="a/b/c")), tmp_path)


def gguf(values: dict[str, int | str], tensors: dict[str, tuple[int, ...]], version: int = 3) -> bytes:
    """The header of a GGUF file."""

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value)) + value.encode()

    parts = [b"GGUF", struct.pack("<IQQ", version, len(tensors), len(values) + 1)]
    parts += [text("tokens"), struct.pack("<IIQ", 9, 8, 2), text("a"), text("b")]
    for key, value in values.items():
        kind = struct.pack("<I", 8) + text(value) if isinstance(value, str) else struct.pack("<II", 4, value)
        parts += [text(key), kind]
    for name, sizes in tensors.items():
        parts += [text(name), struct.pack("<I", len(sizes)), struct.pack(f"<{len(sizes)}Q", *sizes), bytes(12)]
    return b"".join(parts)


def test_gguf(tmp_path: Path) -> None:
    values: dict[str, int | str] = {
        "general.architecture": "llama",
        "llama.embedding_length": 64,
        "llama.block_count": 2,
        "llama.feed_forward_length": 128,
        "llama.attention.head_count": 4,
        "llama.attention.head_count_kv": 2,
        "llama.context_length": 512,
    }
    file = tmp_path / "small.gguf"
    file.write_bytes(gguf(values, {"token_embd.weight": (64, 100)}))
    shape = find_shape(ModelSpec(source=GgufModel(path="small.gguf")), tmp_path)
    assert shape.parameters == shape_from_config(SMALL, label="small", where="here").parameters
    file.write_bytes(gguf(values, {"token_embd.weight": (64, 100), "output.weight": (64, 100)}))
    assert not find_shape(ModelSpec(source=GgufModel(path="small.gguf")), tmp_path).tied


@pytest.mark.parametrize(
    ("content", "fragment"),
    [
        (b"PK\x03\x04", "does not start with `GGUF`"),
        (b"", "does not start with `GGUF`"),
        (gguf({}, {}, version=9), "version 9"),
        (gguf({"a": 1}, {"t": (1,)})[:60], "small.gguf"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1 << 60), "a length of"),
    ],
)
def test_damaged_gguf(content: bytes, fragment: str, tmp_path: Path) -> None:
    file = tmp_path / "small.gguf"
    file.write_bytes(content)
    with pytest.raises(ModelError, match="header") as raised:
        read_gguf_config(file)
    assert fragment in str(raised.value)
