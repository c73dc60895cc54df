"""The interface of a training method: each is a file in training/methods/, found by the run file's `method.kind`.

They are loaded by verbs that start fast, so TRL is imported, and its trainers are derived from, within functions.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

from runspec.errors import DataError
from runspec.run import RunSpec
from runspec.strict import Strict
from training.data.example import Example

if TYPE_CHECKING:
    from datasets import Dataset


class TokenCounts(Strict):
    """Counts of one side's tokens."""

    fates: dict[str, int]
    """How many examples were kept whole, truncated, dropped, split."""
    tokens: int
    supervised: int
    """Tokens that are trained on."""


@dataclass(frozen=True)
class TokenizedRows:
    dataset: Dataset
    """The columns that the method's trainer takes, lists of token ids."""
    counts: TokenCounts


@dataclass(frozen=True)
class TrainerParts:
    """What a trainer is built from.

    Attributes:
        model: PEFT model with a trainable adapter.
        continued: whether that adapter was trained before (`lora.start_from`); a new one changes nothing yet.
        train: rows from the method's `tokenize_rows`.
        holdout: the same, for the loss at each checkpoint; None measures none.
        arguments: of transformers' TrainingArguments, without the method's own.
    """

    model: Any
    continued: bool
    tokenizer: Any
    train: Dataset
    holdout: Dataset | None
    spec: RunSpec
    arguments: dict[str, Any]
    callbacks: list[Any]


class TrainingMethod(Protocol):
    """A module of training/methods/."""

    def first_loss(self, spec: RunSpec) -> float | None:
        """The loss of the first step, before anything is learnt; None if it depends on the model."""

    def can_train_on(self, example: Example) -> bool:
        """Whether an example has what the loss needs: some held-out rows are only to be answered."""

    def remarks(self, spec: RunSpec, good: int, bad: int) -> list[str]:
        """Lines for the user about what was decided before the first step.

        Args:
            good: number of training rows whose answer is to be imitated.
            bad: number of those whose answer is to be avoided.

        Raises:
            UserError: the method cannot do what the run file asks for, or cannot use these rows.
        """

    def tokenize_rows(self, examples: Sequence[Example], tokenizer: Any, spec: RunSpec) -> TokenizedRows:
        """Raises DataError if no token would be trained on."""

    def build_trainer(self, parts: TrainerParts) -> Any:
        """The TRL trainer."""


def load_method(kind: str) -> TrainingMethod:
    return cast(TrainingMethod, importlib.import_module(f"training.methods.{kind}"))


def nothing_to_train_on(examples: Sequence[Example], spec: RunSpec) -> DataError:
    return DataError(
        f"None of the {len(examples)} examples has a token to train on within {spec.data.max_length} tokens.",
        where="data.max_length",
        fix="Raise data.max_length, or shorten the prompts.",
    )
