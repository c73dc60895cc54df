"""`guitarfish evaluate`: a base model, and an adapter of the registry, measured on a run file's hold-out."""

from __future__ import annotations

from typing import Annotated

import typer

from guitarfish.actions.running import drive_with_view, folder_of, given_again, look_at_run, put_run
from guitarfish.show.receipt import show_base_scores, show_scores
from guitarfish.show.rendering import note, print_json
from guitarfish.verbs.options import AsJson, Overrides, RunFile
from runspec.errors import GateError
from runspec.load import load_run, resolved
from training.run.run_folder import TrainingFolder


def evaluate(
    run_file: RunFile,
    set_: Overrides = None,
    adapter: Annotated[
        str | None,
        typer.Option(
            "--adapter", metavar="NAME[@ALIAS]", help="An adapter in the run file's store: NAME, NAME@ALIAS or NAME@3."
        ),
    ] = None,
    json: AsJson = False,
) -> None:
    """Measure the base model, and an adapter if one is named, on the run file's hold-out. Nothing is trained.

    Without an adapter this shows whether tuning is needed at all: the base model with and without examples.
    """
    spec = resolved(load_run(run_file, set_ or ()))
    files = None if adapter is None else folder_of(adapter, spec)
    folder = put_run(look_at_run(spec, None), "evaluate", TrainingFolder)
    note(f"run {folder.run_id}")
    from training.run.pipeline import evaluate_stages  # imports torch

    with given_again():
        measured = drive_with_view(folder, lambda run: evaluate_stages(run, files))
    result = measured.result
    if json:
        print_json(result or measured.before)
    elif result is None:
        show_base_scores(measured.before)
    else:
        show_scores(result)
    if result is not None and not result.verdict.passed:
        raise GateError("The gate was not passed.", where=adapter or "", fix=" ".join(result.verdict.reasons))
