"""Supervised fine-tuning through TRL's SFTTrainer, on our own tokens and labels (training/tokens/chat.py)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from runspec.errors import DataError, ModelError
from runspec.method import Sft
from runspec.run import RunSpec
from training.data.example import Example
from training.methods.method import TokenCounts, TokenizedRows, TrainerParts, nothing_to_train_on
from training.model.base_model import attention_implementation
from training.tokens.chat import IGNORED, tokenize


def first_loss(spec: RunSpec) -> float | None:
    return None


def can_train_on(example: Example) -> bool:
    return example.is_good


def tokenize_rows(examples: Sequence[Example], tokenizer: Any, spec: RunSpec) -> TokenizedRows:
    """Columns `input_ids` and `labels`."""
    from datasets import Dataset

    fates: Counter[str] = Counter()
    input_ids: list[list[int]] = []
    labels: list[list[int]] = []
    for example in examples:
        done = tokenize(example, tokenizer, max_length=spec.data.max_length, too_long=spec.data.too_long)
        fates[done.fate] += 1
        for piece in done.pieces:
            input_ids.append(piece.input_ids)
            labels.append(piece.labels)
    supervised = sum(label != IGNORED for row in labels for label in row)
    if not supervised:
        raise nothing_to_train_on(examples, spec)
    tokens = sum(len(row) for row in input_ids)
    counts = TokenCounts(fates=fates, tokens=tokens, supervised=supervised)
    return TokenizedRows(Dataset.from_dict({"input_ids": input_ids, "labels": labels}), counts)


@dataclass(frozen=True)
class Packing:
    on: bool
    why: str


def remarks(spec: RunSpec, good: int, bad: int) -> list[str]:
    packing = decide_packing(spec, attention_implementation(spec.model))
    return [f"packing {'on' if packing.on else 'off'}: {packing.why}"]


def decide_packing(spec: RunSpec, attention: str) -> Packing:
    """Pack if attention keeps the examples of a sequence apart, as flash attention's variable-length kernels do.

    Raises:
        DataError: the run file asks for packing, but attention would mix the examples.
    """
    assert isinstance(spec.method, Sft)
    apart = attention.startswith("flash_attention")
    match spec.method.packing:
        case "off":
            return Packing(False, "off in the run file")
        case "on" if not apart:
            raise DataError(
                f"method.packing is on, but attention `{attention}` would mix the examples of a sequence.",
                where="method.packing",
                fix="Set method.packing: auto, or install flash-attn on a GPU it supports.",
            )
        case _ if apart:
            return Packing(True, f"{attention} keeps the examples of a sequence apart")
        case _:
            return Packing(False, f"attention `{attention}` would mix the examples of a sequence")


def build_trainer(parts: TrainerParts) -> Any:
    """Raises ModelError if the model's loss would depend on gradient accumulation."""
    from trl import SFTConfig, SFTTrainer

    spec = parts.spec
    packing = decide_packing(spec, attention_implementation(spec.model)).on
    config = SFTConfig(
        **parts.arguments,
        packing=packing,
        eval_packing=False,
        max_length=spec.data.max_length,
        dataset_kwargs={"skip_prepare_dataset": not packing},  # already cut: no copy in each worker
    )
    trainer = SFTTrainer(
        model=parts.model,
        args=config,
        train_dataset=parts.train,
        eval_dataset=parts.holdout,
        processing_class=parts.tokenizer,
        callbacks=parts.callbacks,
    )
    if not trainer.model_accepts_loss_kwargs:
        raise ModelError(
            f"{type(parts.model).__name__} does not accept the number of tokens in the whole batch, so its loss would "
            "depend on training.gradient_accumulation.",
            where="model.source",
            fix="Use an architecture whose forward takes num_items_in_batch, or set gradient_accumulation: 1.",
        )
    return trainer
