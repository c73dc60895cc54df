"""`guitarfish init`: a commented run file to start from."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from guitarfish.actions.sources import data_source, model_source
from guitarfish.show.rendering import say, write_text
from runspec.errors import UserError
from runspec.publish import NAME_PATTERN
from runspec.template import Start, render

MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"


def init(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="File to write.")] = Path("run.yaml"),
    name: Annotated[str | None, typer.Option(help="Name of the run; by default the folder's name.")] = None,
    data: Annotated[str, typer.Option(help="Training data: a file, a folder, or hub:ID.")] = "data.jsonl",
    model: Annotated[str, typer.Option(help="Base model: a hub id, a folder, or a .gguf file.")] = MODEL,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it already exists.")] = False,
) -> None:
    """Write a commented run file. Paths in it are relative to its folder."""
    if file.exists() and not force:
        fix = "Name another file, or replace it with --force."
        raise UserError(f"{file} already exists.", where=str(file), fix=fix)
    folder = file.absolute().parent
    if name is not None and not re.fullmatch(NAME_PATTERN, name):
        fix = "Use up to 63 lower-case letters, digits and hyphens, starting with a letter or digit."
        raise UserError(f"`{name}` is not a valid name for a run.", where="--name", fix=fix)
    write_text(file, render(Start(name or _name(folder), model_source(model, folder), data_source(data, folder))))
    say(f"wrote {file}")
    if not data.startswith("hub:") and not (folder / data).expanduser().exists():
        say(f"put your training data at {folder / data}, or change data.source")
    say(f"next: guitarfish check {file}")


def _name(folder: Path) -> str:
    """The folder's name as a run may be called."""
    letters = [letter if letter.isascii() and letter.isalnum() else "-" for letter in folder.name.lower()]
    return "".join(letters).strip("-")[:63] or "my-run"
