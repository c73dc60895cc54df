"""Supervised fine-tuning through TRL's SFTTrainer, on tokens and labels that we made ourselves.

The labels come from training/data/chat.py, so TRL neither applies a template nor guesses a mask.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runspec.errors import DataError
from runspec.run import RunSpec
from training.data.chat import IGNORED, tokenize
from training.data.example import Example

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(frozen=True)
class TokenizedRows:
    """Rows ready to train on.

    Attributes:
        dataset: columns `input_ids` and `labels`, lists of token ids of one length a row.
        fates: how many examples stayed whole, were truncated, dropped, split.
        tokens: all tokens.
        supervised: tokens that are trained on.
    """

    dataset: Dataset
    fates: dict[str, int]
    tokens: int
    supervised: int


def tokenize_rows(examples: list[Example], tokenizer: Any, spec: RunSpec) -> TokenizedRows:
    """Turn examples into token ids and labels.

    Raises:
        DataError: not one token of them would be trained on.
    """
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
        raise DataError(
            f"Not one of the {len(examples)} examples has a token to train on within {spec.data.max_length} tokens.",
            where="data.max_length",
            fix="Raise data.max_length, or shorten the prompts.",
        )
    tokens = sum(len(row) for row in input_ids)
    return TokenizedRows(Dataset.from_dict({"input_ids": input_ids, "labels": labels}), dict(fates), tokens, supervised)


@dataclass(frozen=True)
class Packing:
    """Whether examples share a sequence, and why."""

    on: bool
    why: str


def decide_packing(spec: RunSpec, attention: str) -> Packing:
    """Pack where attention keeps the examples of one sequence apart: flash attention's variable-length kernels do.

    Raises:
        DataError: packing is asked for and the attention implementation would mix the examples.
    """
    apart = attention.startswith("flash_attention")
    match spec.method.packing:
        case "off":
            return Packing(False, "off in the run file")
        case "on" if not apart:
            raise DataError(
                f"method.packing is on, but attention {attention!r} would mix the examples of a sequence.",
                where="method.packing",
                fix="Set method.packing: auto, or install flash-attn on a GPU it supports.",
            )
        case _ if apart:
            return Packing(True, f"{attention} keeps the examples of a sequence apart")
        case _:
            return Packing(False, f"attention {attention!r} would mix the examples of a sequence")


def build_trainer(
    model: Any,
    tokenizer: Any,
    train: Dataset,
    holdout: Dataset | None,
    spec: RunSpec,
    *,
    folder: Path,
    packing: bool,
    bf16: bool,
    callbacks: list[Any],
) -> Any:
    """The TRL trainer of this method, its checkpoints going to `folder`.

    Args:
        model: PEFT model with a trainable adapter.
        train: `input_ids` and `labels`.
        holdout: the same, for the loss at each checkpoint; None measures none.
        bf16: compute under bfloat16 autocast.
    """
    import torch
    import torch.distributed
    from trl import SFTConfig, SFTTrainer

    training = spec.training
    config = SFTConfig(
        output_dir=str(folder),
        learning_rate=training.learning_rate,
        per_device_train_batch_size=training.batch_size_per_device,
        per_device_eval_batch_size=max(training.batch_size_per_device, 8),
        gradient_accumulation_steps=training.gradient_accumulation,
        num_train_epochs=training.epochs,
        max_steps=training.max_steps or -1,
        lr_scheduler_type=training.schedule,
        warmup_steps=training.warmup_ratio,  # a share below 1 is a ratio (transformers 5)
        weight_decay=training.weight_decay,
        max_grad_norm=training.max_grad_norm,
        gradient_checkpointing=training.gradient_checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False},
        save_strategy="steps",
        save_steps=training.checkpoint_every_steps,
        save_total_limit=1,
        eval_strategy="steps" if holdout is not None else "no",
        eval_steps=training.checkpoint_every_steps if holdout is not None else None,
        logging_strategy="steps",
        logging_steps=1,
        include_num_input_tokens_seen="non_padding",
        bf16=bf16,
        fp16=False,
        use_cpu=not torch.cuda.is_available(),
        ddp_backend=torch.distributed.get_backend() if torch.distributed.is_initialized() else None,
        ddp_find_unused_parameters=False,
        seed=spec.seed,
        data_seed=spec.seed,
        packing=packing,
        eval_packing=False,
        max_length=spec.data.max_length,
        disable_tqdm=True,
        report_to="none",
        dataloader_num_workers=0,
    )
    return SFTTrainer(
        model=model,
        args=config,
        train_dataset=train,
        eval_dataset=holdout,
        processing_class=tokenizer,
        callbacks=callbacks,
    )
