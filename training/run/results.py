"""What the stages of a run pass to the stages after them."""

from __future__ import annotations

from runspec.strict import Strict
from training.curation.funnel import Step


class CuratedRun(Strict):
    """Counts of a run's data. Stored as data/summary.json, beside the rows."""

    layout: str
    """The rows' layout, found or named."""
    funnel: tuple[Step, ...] = ()
    """How many rows each step of curation kept; the changes add up to the training rows."""
    digest: str
    """sha256 over all rows and their sides."""
    notes: list[str]
    """Lines for the user: counts, warnings."""
    fates: dict[str, int] | None = None
    """What earlier versions wrote instead of a funnel."""


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
    """The trained adapter's checkpoints. Paths are below the store's root."""

    steps: int
    """Optimiser steps done."""
    tokens: int
    """Tokens that went through the model, without padding."""
    best_step: int
    """The step of the checkpoint with the lowest hold-out loss; the last step where none was measured."""
    best_holdout_loss: float | None
    """Its loss, in nats per token."""
    best_checkpoint: str
    last_checkpoint: str
    memory_bytes: int | None = None
    """The first worker's peak memory in training: of one GPU, or of its process on CPU."""
