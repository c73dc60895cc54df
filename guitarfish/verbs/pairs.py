"""`guitarfish pairs`: preference pairs from an adapter's own right and wrong answers."""

from __future__ import annotations

import json as json_
import random
from pathlib import Path
from typing import Annotated, Any

import typer

from guitarfish.actions.running import drive_with_view, folder_of, given_again, look_at_run, put_run
from guitarfish.show.rendering import note, print_json, print_table, say
from guitarfish.verbs.options import AsJson, Overrides, RunFile
from runspec.errors import UserError
from runspec.load import load_run, resolved
from runspec.run import RunSpec, metric_names
from training.run.run_folder import TrainingFolder

PAIRS, HOLDOUT = "pairs.jsonl", "holdout.jsonl"


def pairs(
    run_file: RunFile,
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Folder for the two files.", show_default=False)],
    adapter: Annotated[
        str | None,
        typer.Option("--adapter", metavar="NAME[@ALIAS]", help="Whose answers; by default the base model's."),
    ] = None,
    set_: Overrides = None,
    samples: Annotated[int, typer.Option("--samples", min=1, help="Answers drawn for each prompt.")] = 4,
    temperature: Annotated[float, typer.Option("--temperature", help="Sampling temperature of the answers.")] = 1.0,
    rows: Annotated[int, typer.Option("--rows", min=1, help="Most training prompts to answer.")] = 400,
    metric: Annotated[
        str | None, typer.Option("--metric", help="The metric that decides which are right; by default the gate's.")
    ] = None,
    or_reference: Annotated[
        bool,
        typer.Option("--or-reference", help="If no answer is right, use the one in the data as the right one."),
    ] = False,
    json: AsJson = False,
) -> None:
    """Draw answers to the training prompts, score them, and pair a right one with a wrong one for each prompt.

    A prompt whose answers are all right, or all wrong, gives no pair. Writes FOLDER/pairs.jsonl, to train on with dpo
    or orpo, and FOLDER/holdout.jsonl: the run file's hold-out, unchanged. No pair is made from its prompts.
    """
    _check(out, temperature)
    spec = resolved(load_run(run_file, set_ or ()))
    metric = _metric(spec, metric)
    from training.evaluation.self_pairs import Drawing, pick_pairs  # these import torch
    from training.run.pipeline import sample_stages

    drawing = Drawing(samples, temperature, metric)
    files = folder_of(adapter, spec) if adapter is not None else None
    ready = look_at_run(spec, None)
    folder = put_run(ready, "pairs", TrainingFolder)
    note(f"run {folder.run_id}")
    holdout = ready.curated.holdout
    train = [
        example for example in ready.curated.train if example.text is None and example.is_good and not example.replay
    ]
    asked = train if len(train) <= rows else random.Random(spec.seed).sample(train, rows)
    with given_again():
        sampled = drive_with_view(folder, lambda run: sample_stages(run, asked, files, drawing))
    made, fates = pick_pairs(asked, sampled, or_reference=or_reference)
    out.mkdir(parents=True, exist_ok=True)
    _write(out / PAIRS, [_pair_row(pair) for pair in made])
    _write(out / HOLDOUT, [{"messages": list(example.messages)} for example in holdout])
    if json:
        print_json({"pairs": len(made), "holdout": len(holdout), "prompts": dict(fates), "folder": str(out)})
        return
    print_table(["prompts", "count"], fates.most_common(), right="count")
    say("")
    say(f"{len(made)} pairs in {out / PAIRS}, {len(holdout)} held-out rows in {out / HOLDOUT}")


def _check(out: Path, temperature: float) -> None:
    if temperature <= 0:
        fix = "Use a temperature above 0, such as 1."
        raise UserError(f"--temperature is {temperature:g}.", where="--temperature", fix=fix)
    for file in (out / PAIRS, out / HOLDOUT):
        if file.exists():
            raise UserError(f"{file} already exists.", where="--out", fix="Name another folder, or remove the file.")


def _metric(spec: RunSpec, wanted: str | None) -> str:
    metric = wanted or spec.gate.metric
    known = [name for name in metric_names(spec.evaluation) if name != "loss"]
    if metric not in known:
        raise UserError(
            f"`{metric}` is not a metric that scores answers.",
            where="--metric" if wanted else "gate.metric",
            fix=f"Use one of {', '.join(known)}, or add a scorer to the run file."
            if known
            else "Add a scorer to the run file under evaluation.scorers.",
        )
    return metric


def _pair_row(pair: Any) -> dict[str, Any]:
    example = pair.example
    row: dict[str, Any] = {"prompt": list(example.prompt), "chosen": pair.chosen, "rejected": pair.rejected}
    if example.tools is not None:
        row["tools"] = list(example.tools)
    return row if example.group is None else row | {"group": example.group}


def _write(file: Path, rows: list[dict[str, Any]]) -> None:
    file.write_text("".join(json_.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
