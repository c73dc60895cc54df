"""`guitarfish schema`: the run file's JSON Schema, for editors that complete and check YAML."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from guitarfish.show.rendering import note, print_json, write_text
from runspec import schema as run_schema


def schema(
    output: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="File to write; by default standard output.")
    ] = None,
) -> None:
    """Print the run file's JSON Schema (draft 2020-12), or write it to a file.

    Editors use it with this first line in a run file:

    # yaml-language-server: $schema=run.schema.json
    """
    if output is None:
        print_json(run_schema.json_schema())
        return
    write_text(output, json.dumps(run_schema.json_schema(), indent=2) + "\n")
    note(f"wrote {output}")
