"""What the user should know about curated data before training on it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from runspec.data import DataSpec, Layout, SplitHoldout
from training.data.certificate import LeakCertificate
from training.data.example import Example
from training.data.funnel import Funnel

FEW_ROWS = 500
"""Below this many training rows a warning is due."""
MANY_DROPPED = 0.5
"""Share of the rows dropped as poor or as copies from which on a warning is due."""


def curation_warnings(
    train: Sequence[Example],
    replayed: int,
    layout: Layout,
    funnel: Funnel,
    certificate: LeakCertificate,
    spec: DataSpec,
) -> list[str]:
    """Warnings, a sentence each, the gravest last where a terminal ends."""
    return [
        *_about_numbers(train, replayed, funnel, spec),
        *_about_system_prompt(layout, spec),
        *_about_leaks(certificate, spec),
    ]


def _about_numbers(train: Sequence[Example], replayed: int, funnel: Funnel, spec: DataSpec) -> Iterator[str]:
    if len(train) < FEW_ROWS:
        yield (
            f"Only {len(train)} training rows: with fewer than {FEW_ROWS}, expect the model to pick up form "
            "rather than knowledge, and watch the held-out scores for overfitting"
        )
    copies = len(train) - len({example.digest for example in train})
    if copies:
        yield f"{copies} training rows are exact copies of others; they are trained on all the same"
    same = funnel.rows("same as a held-out row")
    if same:
        yield f"{same} rows left out of training: a held-out row of another group is the same"
    curated = [dropped for dropped in funnel.dropped if dropped.stage.startswith(("filter", "exact", "near"))]
    if len(curated) > MANY_DROPPED * funnel.rows("read"):
        yield (
            f"{len(curated):,} of {funnel.rows('read'):,} rows were dropped by filters or as copies; "
            "look at the reasons before you train on the rest"
        )
    replay = spec.curation.replay
    if replay is not None and replayed < round(replay.share * len(train)) - 1:
        yield (
            f"data.curation.replay.share is {replay.share:g}, but its source has only {replayed:,} rows to mix in: "
            f"they are {replayed / len(train):.1%} of the training rows"
        )


def _about_system_prompt(layout: Layout, spec: DataSpec) -> Iterator[str]:
    if layout == "text" and spec.system_prompt:
        yield "data.system_prompt is not used: rows of plain text have no conversation"


def _about_leaks(certificate: LeakCertificate, spec: DataSpec) -> Iterator[str]:
    if certificate.shared_prompts:
        fix = "; data.holdout.group_key keeps rows together" if isinstance(spec.holdout, SplitHoldout) else ""
        yield f"{certificate.shared_prompts:,} held-out rows have the prompt of a training row{fix}"
    if not certificate.is_clean:
        verb = "has" if certificate.near_duplicates == 1 else "have"
        yield (
            f"{certificate.near_duplicates:,} of {certificate.holdout_rows:,} held-out rows {verb} a near-duplicate "
            "among the training rows: scores on them flatter. data.curation.duplicates: {kind: near} leaves such rows "
            "out"
        )
