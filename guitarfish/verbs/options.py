"""Options that several verbs share, and the head of a verb that has verbs of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from runspec.errors import UserError

RunFile = Annotated[Path, typer.Argument(help="The run file.", metavar="RUN.yaml", show_default=False)]
RunFileOrNone = Annotated[Path | None, typer.Argument(help="The run file.", metavar="RUN.yaml", show_default=False)]
RunId = Annotated[str, typer.Argument(metavar="RUN", help="The run's id, or its beginning.", show_default=False)]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change one value, as in lora.rank=32. May be repeated."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON to stdout, everything else to stderr.")]
StoreUri = Annotated[
    str,
    typer.Option(
        "--store", envvar="GUITARFISH_STORE", help="Where runs and adapters are kept: a folder or s3://bucket/prefix."
    ),
]
DEFAULT_STORE = "./store"
Budget = Annotated[
    float | None,
    typer.Option(
        "--budget", metavar="USD", help="Most to spend, earlier attempts included. Overrides the run file's budget."
    ),
]
Context = Annotated[
    str | None, typer.Option("--context", metavar="NAME", help="The kubeconfig context to use with Kubernetes.")
]
BaseName = Annotated[str, typer.Option("--base-name", help="What clients call the base model.")]


def verb_group(help_text: str) -> typer.Typer:
    """An app for a verb that has verbs of its own."""
    return typer.Typer(
        help=help_text,
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        add_completion=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


def check_budget(usd: float | None) -> None:
    """Raises UserError where `--budget` is not an amount of dollars."""
    if usd is not None and not 0 < usd < float("inf"):
        raise UserError(f"--budget is {usd:g}.", where="--budget", fix="Give dollars above 0, as in --budget 2.50.")
