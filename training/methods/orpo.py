"""Odds-ratio preference optimisation (https://arxiv.org/abs/2403.07691) on TRL's experimental ORPOTrainer.

TRL takes the likelihood term over prompt and answer; the paper's, and ours, is over the answer alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from runspec.method import Orpo
from runspec.run import RunSpec
from training.data.example import Example
from training.methods.method import TokenizedRows, TrainerParts
from training.methods.preference import pair_rows


def first_loss(spec: RunSpec) -> float | None:
    return None


def can_train_on(example: Example) -> bool:
    return example.rejected is not None


def remarks(spec: RunSpec, good: int, bad: int) -> list[str]:
    return ["no reference model: likelihood of the chosen answer and odds over the rejected one, in one loss"]


def tokenize_rows(examples: Sequence[Example], tokenizer: Any, spec: RunSpec) -> TokenizedRows:
    return pair_rows(examples, tokenizer, spec)


def build_trainer(parts: TrainerParts) -> Any:
    """With DPO's collator a batch is all chosen, then all rejected answers."""
    from trl.experimental.orpo import ORPOConfig, ORPOTrainer
    from trl.trainer.dpo_trainer import DataCollatorForPreference

    class OnOurTokens(ORPOTrainer):
        loss_is_scaled_for_ga = False

        def tokenize_row(self, feature: Any, model: Any = None) -> Any:
            return feature

        def concatenated_forward(self, model: Any, batch: Any) -> Any:
            labels_BT = batch["input_ids"].masked_fill(batch["completion_mask"] == 0, -100)
            inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
            logits_BTV = model(**inputs, use_cache=False).logits
            mean_B = self.get_batch_logps(logits_BTV, labels_BT, average_log_prob=True)
            tokens_B = (labels_BT[:, 1:] != -100).sum(-1)
            half = len(mean_B) // 2
            likelihood = -(mean_B[:half] * tokens_B[:half]).sum() / tokens_B[:half].sum()
            return mean_B[:half], mean_B[half:], logits_BTV[:half, :-1], logits_BTV[half:, :-1], likelihood

    assert isinstance(parts.spec.method, Orpo)
    length = parts.spec.data.max_length
    arguments = dict(parts.arguments)
    multiple = arguments.pop("pad_to_multiple_of")  # the collator takes it, ORPOConfig does not
    trainer = OnOurTokens(
        model=parts.model,
        args=ORPOConfig(**arguments, beta=parts.spec.method.beta, max_length=length, remove_unused_columns=False),
        data_collator=DataCollatorForPreference(pad_token_id=parts.tokenizer.pad_token_id, pad_to_multiple_of=multiple),
        train_dataset=parts.train,
        eval_dataset=parts.holdout,
        processing_class=parts.tokenizer,
        callbacks=parts.callbacks,
    )
    trainer.use_dpo_data_collator = True  # otherwise each evaluation batch warns that it may not be one
    return trainer
