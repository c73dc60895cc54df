"""Options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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
