"""What the preference methods share: rows of pairs, and the frozen reference adapter."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from runspec.run import RunSpec
from training.data.example import Example
from training.data.pairs import cut, tokenize_pair
from training.methods.method import TokenCounts, TokenizedRows, TrainerParts, nothing_to_train_on

REFERENCE = "ref"
"""What TRL calls its frozen copy of the adapter, beside PEFT's `default`."""


def pair_rows(examples: Sequence[Example], tokenizer: Any, spec: RunSpec) -> TokenizedRows:
    """Columns `prompt_ids`, `chosen_ids` and `rejected_ids`; a pair with a side that is too long is cut or left out."""
    from datasets import Dataset

    fates: Counter[str] = Counter()
    columns: dict[str, list[list[int]]] = {"prompt_ids": [], "chosen_ids": [], "rejected_ids": []}
    tokens = supervised = 0
    for example in examples:
        sides = [cut(side, spec.data.max_length, spec.data.too_long) for side in tokenize_pair(example, tokenizer)]
        fate = next((fate for fate in ("dropped", "truncated") if fate in [found for _, found in sides]), "whole")
        fates[fate] += 1
        (chosen, _), (rejected, _) = sides
        if chosen is None or rejected is None:
            continue
        columns["prompt_ids"].append(chosen.prompt_ids)
        columns["chosen_ids"].append(chosen.answer_ids)
        columns["rejected_ids"].append(rejected.answer_ids)
        tokens += chosen.length + rejected.length
        supervised += len(chosen.answer_ids) + len(rejected.answer_ids)
    if not supervised:
        raise nothing_to_train_on(examples, spec)
    counts = TokenCounts(fates=fates, tokens=tokens, supervised=supervised)
    return TokenizedRows(Dataset.from_dict(columns), counts)


def remove_unused_reference(parts: TrainerParts) -> None:
    """Remove TRL's copy of a new adapter: without one the reference is the model without an adapter, which is the same.

    The copy takes a second adapter's memory and computation.
    """
    if not parts.continued and REFERENCE in parts.model.peft_config:
        parts.model.delete_adapter(REFERENCE)
