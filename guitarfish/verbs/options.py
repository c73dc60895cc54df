"""Options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from runspec.errors import UserError

RunFile = Annotated[Path, typer.Argument(help="The run file.", metavar="RUN.yaml", show_default=False)]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change one value, as in lora.rank=32. May be repeated."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON to stdout, everything else to stderr.")]
StoreUri = Annotated[
    str,
    typer.Option(
        "--store", envvar="GUITARFISH_STORE", help="Where runs and adapters are: a folder or s3://bucket/prefix."
    ),
]
DEFAULT_STORE = "./store"
BudgetUsd = Annotated[
    float | None,
    typer.Option(
        "--budget", metavar="USD", help="Most to spend, earlier attempts included, in place of the run file's."
    ),
]


def check_budget(usd: float | None) -> None:
    """See that a `--budget` is an amount of dollars. Raises UserError."""
    if usd is not None and not 0 < usd < float("inf"):
        raise UserError(f"--budget is {usd:g}.", where="--budget", fix="Name dollars above 0, as in --budget 2.50.")
