"""The optimisation: batch, schedule, checkpoints, failures."""

from typing import Literal

from pydantic import Field

from runspec.strict import Strict


class TrainingSpec(Strict):
    """How long and how fast to train. The defaults are the standard LoRA recipe."""

    learning_rate: float = Field(default=2e-4, gt=0)
    """Peak learning rate."""
    batch_size_per_device: int = Field(default=4, ge=1)
    """Examples in one forward pass of one worker."""
    gradient_accumulation: int = Field(default=8, ge=1)
    """Forward passes to one optimiser step."""
    epochs: float = Field(default=3, gt=0)
    """Passes over the training data. Ignored where `max_steps` is set."""
    max_steps: int | None = Field(default=None, ge=1)
    """Optimiser steps, whatever the size of the data."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """Learning rate after the warm-up."""
    warmup_ratio: float = Field(default=0.03, ge=0, lt=1)
    """Share of the steps in which the learning rate rises from 0."""
    weight_decay: float = Field(default=0, ge=0)
    """AdamW's decoupled weight decay."""
    max_grad_norm: float = Field(default=1.0, gt=0)
    """Gradients are clipped to this norm."""
    gradient_checkpointing: bool = True
    """Compute activations again in the backward pass rather than keep them: less memory, about a third slower."""
    checkpoint_every_steps: int = Field(default=50, ge=1)
    """Steps between checkpoints: the most that a failure can cost."""
    holdout_loss_rows: int = Field(default=64, ge=0)
    """Held-out rows whose loss is measured at each checkpoint, to keep the best one. 0: only the last is kept."""
    max_failures: int = Field(default=3, ge=0)
    """Times that a lost worker is replaced and the run goes on from its last checkpoint."""
