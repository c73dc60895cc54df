"""What `guitarfish check` finds out about a run: what happens to its rows, its hold-out, metrics and tokens."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from guitarfish.actions.driving import quiet_libraries
from guitarfish.show.rendering import note
from runspec.load import LoadedRun
from runspec.run import RunSpec, metric_names
from training.curation.certificate import LeakCertificate
from training.curation.funnel import Step
from training.data.example import Example
from training.run.preparation import look_at_model, prepare_data, why_not_looked_at
from training.tokens.chat import tokenize

TOKENIZED_ROWS = 2000
"""Training rows that are tokenized to see how long they are; more would make `check` slow and say little more."""

DROPPED_SHOWN = 200
"""Dropped rows that `--json` lists; a run's folder holds all of them."""


@dataclass
class Findings:
    """What was found; errors are raised instead.

    Attributes:
        dropped: origin, stage and reason of the first rows that were dropped.
        bad_rows: origin and problem of each row that was set aside.
        gate: what must hold, in words.
        model: what was checked of the base model, in words.
        tokens: rows that are whole, truncated, dropped and split, and lengths in tokens; empty where not checked.
    """

    name: str
    layout: str
    funnel: list[Step]
    training_rows: int
    holdout_rows: int
    bad_rows: list[dict[str, str]]
    dropped: list[dict[str, str]]
    leaks: LeakCertificate
    metrics: list[str]
    gate: str
    warnings: list[str]
    model: str = "not checked"
    tokens: dict[str, int] = field(default_factory=dict)


def inspect(loaded: LoadedRun, *, with_model: bool) -> Findings:
    """Read the data as a run would, and look at the model's tokenizer.

    Raises:
        DataError: the data cannot be read, a row is bad, or the chat template cannot train on it.
        ModelError: the base model is not found.
        SpecError: a path of the run file is not found.
    """
    spec = loaded.spec
    curated = prepare_data(spec, loaded.folder)
    found = Findings(
        name=spec.name,
        layout=curated.layout,
        funnel=curated.funnel.steps,
        training_rows=len(curated.train),
        holdout_rows=len(curated.holdout),
        bad_rows=[{"origin": row.origin, "problem": row.problem} for row in curated.bad_rows],
        dropped=[vars(row) for row in curated.funnel.dropped[:DROPPED_SHOWN]],
        leaks=curated.certificate,
        metrics=metric_names(spec.evaluation),
        gate=gate_in_words(spec),
        warnings=list(curated.warnings),
    )
    if with_model:
        _look_at_model(loaded, curated.train, found)
    return found


def gate_in_words(spec: RunSpec) -> str:
    """What must hold before the adapter is published, on one line."""
    gate = spec.gate
    parts = [f"{gate.metric} gains at least {gate.min_gain:g}, beyond chance"]
    if gate.max_drift is not None:
        parts.append(f"drift at most {gate.max_drift:g} nats per token")
    if gate.target is not None:
        parts.append(f"few-shot baseline below {gate.target:g}")
    return "; ".join(parts)


def _look_at_model(loaded: LoadedRun, examples: list[Example], found: Findings) -> None:
    missing = why_not_looked_at(loaded.spec.model)
    if missing:
        found.model = f"not checked: {missing}"
        return
    note("looking at the base model; a GGUF file is unpacked the first time ...")
    quiet_libraries()
    model = look_at_model(loaded.spec, loaded.folder, examples)
    found.tokens = measure_lengths(examples[:TOKENIZED_ROWS], model.tokenizer, loaded.spec)
    found.model = f"{model.base.label}: chat template trains on the assistant's turns, {in_words(found.tokens)}"
    if found.tokens["dropped"] == found.tokens["rows"]:
        found.warnings.append("no row is left: every row is longer than data.max_length, and data.too_long is drop")


def measure_lengths(examples: list[Example], tokenizer: Any, spec: RunSpec) -> dict[str, int]:
    counts = {"rows": len(examples), "whole": 0, "truncated": 0, "dropped": 0, "split": 0, "tokens": 0, "longest": 0}
    for example in examples:
        done = tokenize(example, tokenizer, max_length=spec.data.max_length, too_long=spec.data.too_long)
        counts[done.fate] += 1
        length = sum(len(piece.input_ids) for piece in done.pieces)
        counts["tokens"] += length
        counts["longest"] = max(counts["longest"], length)
    return counts


def in_words(tokens: dict[str, int]) -> str:
    cut = [f"{tokens[fate]} {fate}" for fate in ("truncated", "dropped", "split") if tokens[fate]]
    mean = tokens["tokens"] / max(1, tokens["rows"])
    fates = f", {', '.join(cut)}" if cut else ", none too long"
    return f"{tokens['rows']:,} rows tokenized: {mean:.0f} tokens on average, {tokens['longest']} at most{fates}"
