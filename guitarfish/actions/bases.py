"""The base model of a published adapter: named on the command line, or found through its run or its card."""

from __future__ import annotations

from pathlib import Path

from cluster.store.runs import RunFolder
from cluster.store.storage import Store
from guitarfish.actions.sources import model_source
from registry.card import AdapterCard
from runspec.errors import ModelError, UserError
from runspec.model import HubModel, ModelSpec
from training.model.base_model import BaseModel, materialise

NAME_IT = "Name it with --base: a hub id, a folder or a .gguf file."


def base_of(store: Store, card: AdapterCard, named: str | None) -> tuple[BaseModel, ModelSpec]:
    """Find the base model that an adapter was trained on, and see that it is that one.

    Args:
        named: `--base`; without it the run's spec.json says where the model is, or a hub id on the card.

    Returns:
        The model, and how it is loaded: with the run's chat template where there was a run.

    Raises:
        UserError: nothing says where it is.
        ModelError: it is not there, or its weights are not those that the adapter was trained on.
    """
    model = _model_of(store, card, named)
    try:
        base = materialise(model, Path.cwd())
    except UserError as error:
        fix = error.fix if named else f"{error.fix} Where it lies elsewhere now: {NAME_IT}"
        raise type(error)(error.what, where=error.where, fix=fix) from error
    if base.digest != card.base_digest:
        raise ModelError(
            f"{card.adapter}@{card.version} was trained on {card.base_model} ({_short(card.base_digest)}), "
            f"and this is {base.label} ({_short(base.digest)}).",
            where=f"--base {named}" if named else f"model.source of run {card.run_id}",
            fix=f"Name the model that its card names with --base ({card.base_kind} {card.base_model}).",
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
            f"Nothing says where the base model of {card.adapter}@{card.version} is: its card names "
            f"{card.base_kind} {card.base_model}, and its run is not in this store.",
            where=run.spec.where if card.run_id else f"card of {card.adapter}@{card.version}",
            fix=NAME_IT,
        )
    return model


def _short(digest: str) -> str:
    kind, colon, value = digest.partition(":")
    return f"{kind}{colon}{value[: 60 if kind == 'hub' else 12]}"
