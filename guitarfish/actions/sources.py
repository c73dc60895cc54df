"""Models and data named on the command line, as the run file writes them; the base model of a published adapter."""

from __future__ import annotations

from pathlib import Path

from cluster.store.runs import RunFolder
from cluster.store.storage import Store
from registry.card import AdapterCard
from runspec.errors import ModelError, UserError
from runspec.model import HubModel, ModelSpec
from training.model.base_model import BaseModel, materialise

NAME_IT = "Name it with --base: a hub id, a folder or a .gguf file."


def model_source(text: str, folder: Path) -> dict[str, str]:
    """A base model: a .gguf file, a folder (one that exists, or written as a path), else a hub id."""
    if text.lower().endswith(".gguf"):
        return {"kind": "gguf", "path": text}
    if text.startswith(("./", "../", "/", "~", "package:")) or (folder / text).is_dir():
        return {"kind": "folder", "path": text}
    return {"kind": "hub", "id": text}


def data_source(text: str, folder: Path) -> dict[str, str]:
    """Data: `hub:ID`, a folder (one that exists, or with a slash at its end), else a file."""
    if text.startswith("hub:"):
        return {"kind": "hub", "id": text.removeprefix("hub:")}
    if text.endswith("/") or (folder / Path(text).expanduser()).is_dir():
        return {"kind": "folder", "path": text}
    return {"kind": "file", "path": text}


def base_of(store: Store, card: AdapterCard, named: str | None) -> tuple[BaseModel, ModelSpec]:
    """The base model that an adapter was trained on, and how it is loaded: with its run's chat template, if any.

    Args:
        named: `--base`; without it the run's spec.json says where the model is, or a hub id on the card.

    Raises:
        UserError: nothing says where it is.
        ModelError: it is not there, or its weights are not those that the adapter was trained on.
    """
    model = _model_of(store, card, named)
    try:
        base = materialise(model, Path.cwd())
    except UserError as error:
        fix = error.fix if named else f"{error.fix} If it is elsewhere now: {NAME_IT}"
        raise type(error)(error.what, where=error.where, fix=fix) from error
    if base.digest != card.base_digest:
        raise ModelError(
            f"{card.adapter}@{card.version} was trained on {card.base_model} ({_short(card.base_digest)}), "
            f"but this is {base.label} ({_short(base.digest)}).",
            where=f"--base {named}" if named else f"model.source of run {card.run_id}",
            fix=f"Give the model on its card with --base ({card.base_kind} {card.base_model}).",
        )
    return base, model


def _model_of(store: Store, card: AdapterCard, named: str | None) -> ModelSpec:
    run = RunFolder(store, card.run_id)
    spec = run.spec.read_if_there() if card.run_id else None
    model = spec.model if spec else None
    if named is not None:
        source = ModelSpec.model_validate({"source": model_source(named, Path.cwd())}).source
        return model.model_copy(update={"source": source}) if model else ModelSpec(source=source)
    if card.base_kind == "hub":
        # The commit is in the digest: `main` may have moved on since.
        pinned = HubModel(id=card.base_model, revision=card.base_digest.rpartition("@")[2])
        return model.model_copy(update={"source": pinned}) if model else ModelSpec(source=pinned)
    if model is None:
        raise UserError(
            f"The base model of {card.adapter}@{card.version} was not found: its card names "
            f"{card.base_kind} {card.base_model}, and its run is not in this store.",
            where=run.spec.where if card.run_id else f"card of {card.adapter}@{card.version}",
            fix=NAME_IT,
        )
    return model


def _short(digest: str) -> str:
    kind, colon, value = digest.partition(":")
    return f"{kind}{colon}{value[: 60 if kind == 'hub' else 12]}"
