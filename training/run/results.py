"""What the stages of a run leave for those after them."""

from __future__ import annotations

from runspec.strict import Strict
from training.curation.funnel import Step


class CuratedRun(Strict):
    """What became of the data of a run; the rows themselves are stored beside it, as data/summary.json."""

    layout: str
    """The rows' layout, found or named."""
    funnel: tuple[Step, ...] = ()
    """What became of the rows, line by line; the changes add up to the training rows."""
    digest: str
    """sha256 over all rows and their sides."""
    notes: list[str]
    """Lines for the user: counts, warnings."""
    fates: dict[str, int] | None = None
    """What earlier versions kept instead of a funnel."""


class TrialRecord(Strict):
    """The search that a trial's run belongs to. Stored as trial.json of the trial."""

    search: str
    """The search's run, which has the data and the base model's scores."""
    number: int
    rank: int
    alpha: float
    learning_rate: float


class Sampled(Strict):
    """Answers drawn for each prompt, and their scores."""

    answers: list[list[str]]
    values: list[list[float]]


class TrainingResult(Strict):
    """Where the trained adapter lies. Paths are below the store's root."""

    steps: int
    """Optimiser steps done."""
    tokens: int
    """Tokens that went through the model, padding apart."""
    best_step: int
    """The step of the checkpoint with the lowest hold-out loss; the last where none was measured."""
    best_holdout_loss: float | None
    """Its loss, in nats a token."""
    best_checkpoint: str
    """Folder of that checkpoint."""
    last_checkpoint: str
    """Folder of the last one."""
    memory_bytes: int | None = None
    """The most memory that the first worker held while training: of a card, or of its process on CPU."""
