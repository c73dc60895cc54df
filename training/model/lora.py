"""The adapter on the base model: a new one to train, or a trained one to measure."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

from registry.card import AdapterCard
from runspec.errors import ModelError
from runspec.lora import LoraSpec
from training.model.base_model import BaseModel


def attach_adapter(model: Any, lora: LoraSpec, *, seed: int) -> Any:
    """Put a new, untrained LoRA adapter on a base model. Raises ModelError if a target is not a module of it."""
    from peft import LoraConfig, get_peft_model
    from transformers import set_seed

    check_targets(model, lora)
    set_seed(seed)
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.targets if isinstance(lora.targets, str) else list(lora.targets),
        use_rslora=lora.rslora,
        use_dora=lora.dora,
        bias="none",
        task_type="CAUSAL_LM",
    )
    return get_peft_model(model, config)


def check_start(lora: LoraSpec, card: AdapterCard, base: BaseModel) -> None:
    """Raise ModelError if the adapter to start from has another base model or shape than the run file."""
    where = f"lora.start_from: {lora.start_from}"
    if card.base_digest != base.digest:
        raise ModelError(
            f"{lora.start_from} was trained on {card.base_model} ({card.base_digest[:24]}...), but the run file's base "
            f"model is {base.label} ({base.digest[:24]}...).",
            where=where,
            fix="Name the base model it was trained on, or another adapter.",
        )
    targets = [lora.targets] if isinstance(lora.targets, str) else sorted(lora.targets)
    for key, here, there in (
        ("rank", lora.rank, card.rank),
        ("alpha", lora.alpha, card.alpha),
        ("rslora", lora.rslora, card.rslora),
        ("targets", targets, sorted(card.targets)),
    ):
        if here != there:
            raise ModelError(
                f"{lora.start_from} has {key} {there}, but lora.{key} is {here}.",
                where=where,
                fix=f"Set lora.{key}: {there}, or start from another adapter.",
            )
    if lora.dora:
        raise ModelError(f"{lora.start_from} is not a DoRA adapter.", where=where, fix="Set lora.dora: false.")


def check_targets(model: Any, lora: LoraSpec) -> None:
    """Raise ModelError if a target of the adapter is not a linear layer of the model; names those that are."""
    import torch

    if isinstance(lora.targets, str):
        return
    linear = {name.rpartition(".")[2] for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    missing = [target for target in lora.targets if target not in linear]
    if missing:
        near = difflib.get_close_matches(missing[0], sorted(linear), n=1, cutoff=0.4)
        raise ModelError(
            f"The model has no linear layer `{missing[0]}`.",
            where="lora.targets",
            fix=(f"Did you mean `{near[0]}`? " if near else "")
            + f"Name some of {', '.join(sorted(linear - {'lm_head'}))}, or set lora.targets: all-linear.",
        )


def load_adapter(model: Any, folder: Path, *, trainable: bool = False) -> Any:
    """Put a trained adapter on a base model. Raises ModelError if some of its keys match no module of the base."""
    from peft import PeftModel
    from safetensors import safe_open

    tuned = PeftModel.from_pretrained(model, str(folder), is_trainable=trainable)
    with safe_open(str(folder / "adapter_model.safetensors"), framework="pt") as file:
        stored = set(file.keys())
    own = {name.replace(".default.", ".") for name, _ in tuned.named_parameters() if "lora_" in name}
    stray = sorted(stored - own)
    if stray or not stored:
        raise ModelError(
            f"{len(stray)} of the adapter's {len(stored)} weights match no module of the base model.",
            where=f"{folder}: {stray[0] if stray else 'adapter_model.safetensors is empty'}",
            fix="Use the base model the adapter was trained on; its card names it.",
        )
    return tuned
