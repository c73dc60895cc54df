"""The demo on fewer steps and rows."""

from __future__ import annotations

from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "examples" / "smart-home"
FEWER = {
    "training.max_steps": "12",
    "training.checkpoint_every_steps": "12",
    "training.holdout_loss_rows": "4",
    "evaluation.rows": "8",
    "evaluation.max_new_tokens": "8",
    "evaluation.few_shot": "0",
    "evaluation.general.prompts": "2",
    "evaluation.general.tokens": "4",
    "evaluation.scorers": "[{kind: loss}]",
    "gate.metric": "loss",
    "gate.min_gain": "0.5",
    "gate.target": "null",
    "gate.max_drift": "null",
}
