"""What the user should know about curated data before training on it."""

from __future__ import annotations

from collections.abc import Sequence

from runspec.data import DataSpec, Layout, SplitHoldout
from training.curation.certificate import LeakCertificate
from training.curation.funnel import Funnel
from training.data.example import Example

FEW_ROWS = 500
"""Below this many training rows a warning is due."""
MANY_DROPPED = 0.5
"""Share of the rows dropped by filters or as copies from which on a warning is due."""


def curation_warnings(
    train: Sequence[Example],
    replayed: int,
    poor: int,
    layout: Layout,
    funnel: Funnel,
    certificate: LeakCertificate,
    spec: DataSpec,
) -> list[str]:
    """Warnings, a sentence each, the gravest last where a terminal ends.

    Args:
        replayed: training rows that were mixed in.
        poor: rows dropped by filters or as copies.
    """
    found = []
    if len(train) < FEW_ROWS:
        found.append(
            f"Only {len(train)} training rows: with fewer than {FEW_ROWS}, expect the model to pick up form "
            "rather than knowledge, and watch the held-out scores for overfitting"
        )
    copies = len(train) - len({example.digest for example in train})
    if copies:
        found.append(f"{copies} training rows are exact copies of others; each copy is trained on")
    same = funnel.rows("same as a held-out row")
    if same:
        found.append(f"{same} rows left out of training: a held-out row of another group is the same")
    if poor > MANY_DROPPED * funnel.rows("read"):
        found.append(
            f"{poor:,} of {funnel.rows('read'):,} rows were dropped by filters or as copies; "
            "look at the reasons before you train on the rest"
        )
    replay = spec.curation.replay
    if replay is not None and replayed < round(replay.share * len(train)) - 1:
        found.append(
            f"data.curation.replay.share is {replay.share:g}, but its source has only {replayed:,} rows to mix in: "
            f"they are {replayed / len(train):.1%} of the training rows"
        )
    if layout == "text" and spec.system_prompt:
        found.append("data.system_prompt is not used: rows of plain text have no conversation")
    if certificate.shared_prompts:
        fix = "; data.holdout.group_key keeps rows together" if isinstance(spec.holdout, SplitHoldout) else ""
        found.append(f"{certificate.shared_prompts:,} held-out rows have the prompt of a training row{fix}")
    if not certificate.is_clean:
        verb = "has" if certificate.near_duplicates == 1 else "have"
        found.append(
            f"{certificate.near_duplicates:,} of {certificate.holdout_rows:,} held-out rows {verb} a near-duplicate "
            "among the training rows, so scores on them are too high. Set data.curation.duplicates: {kind: near} to "
            "leave such training rows out"
        )
    return found
