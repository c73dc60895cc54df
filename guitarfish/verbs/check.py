"""`guitarfish check`: everything that can be wrong with a run and found without training."""

from __future__ import annotations

from typing import Annotated

import typer

from guitarfish.actions.findings import Findings, inspect
from guitarfish.show.rendering import print_facts, print_json, print_table, say, warn
from guitarfish.verbs.options import AsJson, Overrides, RunFile
from runspec.load import load_run

PAIRS_SHOWN = 3
"""Held-out rows with a near-duplicate that are named."""
EXAMPLE_WIDTH = 70
"""Characters of a reason that the table shows."""


def check(
    run_file: RunFile,
    set_: Overrides = None,
    data_only: Annotated[bool, typer.Option("--data-only", help="Do not look at the base model.")] = False,
    json: AsJson = False,
) -> None:
    """Validate a run file and its data, and what the base model's tokenizer makes of them. Nothing is trained.

    A model that is not on this machine is not downloaded: its part of the check is skipped, and the output says so.
    """
    loaded = load_run(run_file, set_ or ())
    found = inspect(loaded, with_model=not data_only)
    if json:
        print_json({"valid": True, **vars(found)})
        return
    _show(run_file.name, found)


def _show(name: str, found: Findings) -> None:
    say(f"{name} is valid: run {found.name}")
    say("")
    print_facts(
        {
            "data": f"{found.training_rows:,} rows to train on, {found.holdout_rows:,} held out, layout {found.layout}",
            "metrics": ", ".join(found.metrics),
            "gate": found.gate,
            "model": found.model,
        }
    )
    say("")
    _show_funnel(found)
    for row in found.bad_rows[:5]:
        warn(f"{row['origin']}: {row['problem']}")
    for text in found.warnings:
        warn(text)


def _show_funnel(found: Findings) -> None:
    lines = [
        (step["stage"], f"{step['change']:+,}" if step["change"] else "0", f"{step['left']:,}", _short(step["example"]))
        for step in found.funnel
    ]
    print_table(["rows", "change", "left", "for example"], lines, right="change left")
    say("")
    say(found.leaks["in_words"])
    for pair in found.leaks["pairs"][:PAIRS_SHOWN]:
        say(f"  {pair['held_out']} is like {pair['trained']}: {pair['similarity']:.2f}")


def _short(example: str) -> str:
    return example if len(example) <= EXAMPLE_WIDTH else f"{example[: EXAMPLE_WIDTH - 3]}..."
