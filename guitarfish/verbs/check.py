"""`guitarfish check`: everything that can be wrong with a run and found without training."""

from __future__ import annotations

from typing import Annotated

import typer

from guitarfish.actions.findings import Findings, inspect
from guitarfish.show.rendering import print_facts, print_json, say, show_table, warn
from guitarfish.show.tables import funnel_table
from guitarfish.verbs.options import AsJson, Overrides, RunFile
from runspec.load import load_run

PAIRS_SHOWN = 3
"""Held-out rows with a near-duplicate that are named."""


def check(
    run_file: RunFile,
    set_: Overrides = None,
    data_only: Annotated[bool, typer.Option("--data-only", help="Do not look at the base model.")] = False,
    json: AsJson = False,
) -> None:
    """Validate a run file and its data, and tokenize it with the base model's tokenizer. Nothing is trained.

    A model that is not on this machine is not downloaded: its part of the check is skipped, and the output says so.
    """
    found = inspect(load_run(run_file, set_ or ()), with_model=not data_only)
    if json:
        leaks = {"in_words": found.leaks.in_words(), **found.leaks.model_dump(mode="json")}
        print_json({"valid": True, **vars(found), "leaks": leaks})
    else:
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
    show_table(funnel_table(found.funnel))
    say("")
    say(found.leaks.in_words())
    for pair in found.leaks.pairs[:PAIRS_SHOWN]:
        say(f"  {pair.held_out} is like {pair.trained}: {pair.similarity:.2f}")
    for row in found.bad_rows[:5]:
        warn(f"{row['origin']}: {row['problem']}")
    for text in found.warnings:
        warn(text)
