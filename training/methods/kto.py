"""Kahneman-Tversky optimisation (https://arxiv.org/abs/2402.01306) through TRL's KTOTrainer, on our own tokens."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

from runspec.errors import DataError, SpecError
from runspec.method import Kto
from runspec.run import RunSpec
from training.data.example import Example
from training.data.pairs import cut, tokenize_answer
from training.methods.method import TokenCounts, TokenizedRows, TrainerParts, nothing_to_train_on
from training.methods.preference import remove_unused_reference


def first_loss(spec: RunSpec) -> float | None:
    """The log-ratios and the KL term are still 0: 1 - sigmoid(0), if both labels weigh the same."""
    method = spec.method
    assert isinstance(method, Kto)
    return 0.5 * method.desirable_weight if method.desirable_weight == method.undesirable_weight else None


def can_train_on(example: Example) -> bool:
    return example.label is not None


def remarks(spec: RunSpec, good: int, bad: int) -> list[str]:
    """Raises SpecError if batches have one row, DataError if all labels are the same."""
    if spec.training.batch_size_per_device < 2:
        raise SpecError(
            f"training.batch_size_per_device is {spec.training.batch_size_per_device}, but KTO estimates its KL term "
            "from the other answers in a batch.",
            where="training.batch_size_per_device",
            fix="Set it to 2 or more; the paper recommends at least 4.",
        )
    if not good or not bad:
        raise DataError(
            f"All {good + bad} training rows are labelled {'good' if good else 'bad'}, so there is nothing to compare.",
            where="data.source",
            fix="Add answers with the other label, or train on the good ones with method.kind: sft.",
        )
    return [
        f"reference: {spec.lora.start_from or 'the base model without an adapter'}",
        f"{good} good answers, {bad} bad ones",
    ]


def tokenize_rows(examples: Sequence[Example], tokenizer: Any, spec: RunSpec) -> TokenizedRows:
    """Columns `prompt_ids`, `completion_ids`, `label` and `KL_completion_ids`: the previous row's answer, within a
    batch of one worker. The rows are shuffled here, because the trainer must keep their order."""
    from datasets import Dataset

    fates: Counter[str] = Counter()
    rows: list[dict[str, Any]] = []
    for example in examples:
        answered, fate = cut(
            tokenize_answer(example, example.completion, tokenizer), spec.data.max_length, spec.data.too_long
        )
        fates[fate] += 1
        if answered is not None:
            ids = {"prompt_ids": answered.prompt_ids, "completion_ids": answered.answer_ids}
            rows.append({**ids, "label": example.label})
    if not rows:
        raise nothing_to_train_on(examples, spec)
    random.Random(spec.seed).shuffle(rows)
    size = spec.training.batch_size_per_device
    for start in range(0, len(rows), size):
        batch = rows[start : start + size]
        for place, row in enumerate(batch):
            row["KL_completion_ids"] = batch[place - 1]["completion_ids"]
    supervised = sum(len(row["completion_ids"]) for row in rows)
    tokens = supervised + sum(len(row["prompt_ids"]) for row in rows)
    counts = TokenCounts(fates=fates, tokens=tokens, supervised=supervised)
    return TokenizedRows(Dataset.from_list(rows), counts)


def build_trainer(parts: TrainerParts) -> Any:
    from trl import KTOConfig, KTOTrainer

    class OnOurTokens(KTOTrainer):
        def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
            return dataset  # tokenised already

    method = parts.spec.method
    assert isinstance(method, Kto)
    trainer = OnOurTokens(
        model=parts.model,
        args=KTOConfig(
            **parts.arguments,
            beta=method.beta,
            desirable_weight=method.desirable_weight,
            undesirable_weight=method.undesirable_weight,
            train_sampling_strategy="sequential",
            max_length=None,
        ),
        train_dataset=parts.train,
        eval_dataset=parts.holdout,
        processing_class=parts.tokenizer,
        callbacks=parts.callbacks,
    )
    remove_unused_reference(parts)
    return trainer
