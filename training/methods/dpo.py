"""Direct preference optimisation (https://arxiv.org/abs/2305.18290) through TRL's DPOTrainer, on our own tokens.

The reference is what the run started from: the adapter of `lora.start_from`, else the bare base model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from runspec.method import Dpo
from runspec.run import RunSpec
from training.data.example import Example
from training.methods.method import TokenizedRows, TrainerParts
from training.methods.preference import pair_rows, remove_unused_reference


def first_loss(spec: RunSpec) -> float | None:
    return math.log(2)  # the model is still its reference, so both log-ratios are 0: -log sigmoid(0)


def can_train_on(example: Example) -> bool:
    return example.rejected is not None


def remarks(spec: RunSpec, good: int, bad: int) -> list[str]:
    return [f"reference: {spec.lora.start_from or 'the base model without an adapter'}"]


def tokenize_rows(examples: Sequence[Example], tokenizer: Any, spec: RunSpec) -> TokenizedRows:
    return pair_rows(examples, tokenizer, spec)


def build_trainer(parts: TrainerParts) -> Any:
    """TRL makes its frozen copy of the adapter when the trainer is built, before any checkpoint is loaded."""
    from trl import DPOConfig, DPOTrainer

    class OnOurTokens(DPOTrainer):
        loss_is_scaled_for_ga = False

        def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
            return dataset  # tokenised already

    assert isinstance(parts.spec.method, Dpo)
    trainer = OnOurTokens(
        model=parts.model,
        args=DPOConfig(**parts.arguments, beta=parts.spec.method.beta, max_length=None),
        train_dataset=parts.train,
        eval_dataset=parts.holdout,
        processing_class=parts.tokenizer,
        callbacks=parts.callbacks,
    )
    remove_unused_reference(parts)
    return trainer
