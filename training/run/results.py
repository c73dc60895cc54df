"""What training leaves behind for the stages after it."""

from runspec.strict import Strict


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
