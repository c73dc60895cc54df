"""`guitarfish schema`: the run file's JSON Schema, for editors that complete and check YAML."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def schema(
    output: Annotated[Path | None, typer.Argument(metavar="FILE", help="File to write; stdout without it.")] = None,
) -> None:
    """Print the run file's JSON Schema (draft 2020-12), or write it to a file.

    Editors use it with this first line in a run file:

    # yaml-language-server: $schema=run.schema.json
    """
    import json

    from guitarfish.actions.files import write_text
    from guitarfish.show.rendering import note, print_json
    from runspec.schema import json_schema

    if output is None:
        print_json(json_schema())
        return
    write_text(output, json.dumps(json_schema(), indent=2) + "\n")
    note(f"wrote {output}")
