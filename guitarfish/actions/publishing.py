"""Publishing by hand: a run that was kept, or a folder that PEFT wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cluster.store.runs import find_run
from guitarfish.actions.sources import model_source
from registry.adapters import Registry
from registry.card import AdapterCard, CardDraft
from registry.weights import CONFIG, read_config
from runspec.errors import GateError, RegistryError, UserError
from runspec.model import ModelSpec
from runspec.publish import PublishSpec
from training.model.adapter_files import adapter_files
from training.model.base_model import materialise
from training.run.publication import publish_run
from training.run.run_folder import TrainingFolder


def publish_kept_run(registry: Registry, wanted: str, name: str | None, *, despite_gate: bool) -> AdapterCard:
    """Publish what a finished run trained. No alias is moved.

    Raises:
        UserError: the run is not found, or it was not measured to its end.
        GateError: it did not pass its gate, and `despite_gate` is false.
    """
    folder = TrainingFolder(registry.store, find_run(registry.store, wanted))
    run_id, result = folder.run_id, folder.result.read_if_there()
    if result is None:
        fix = f"Finish it with `guitarfish train --resume {run_id}`."
        raise UserError(f"Run {run_id} has not finished.", where=folder.where, fix=fix)
    if not result.verdict.passed and not despite_gate:
        fix = f"{' '.join(result.verdict.reasons)} To publish it anyway, add --despite-gate."
        raise GateError(f"Run {run_id} did not pass its gate.", where=folder.where, fix=fix)
    spec = folder.spec.read()
    _refuse_dora(spec.lora.dora, run_id)
    spec = spec.model_copy(update={"publish": PublishSpec(adapter=name or spec.adapter_name, alias=None)})
    data, after, training = folder.data_folder().data.read(), folder.after.read(), folder.training.read()
    cost = sum(attempt.cost_usd for attempt in folder.ledger.attempts())
    with adapter_files(folder.store, training.best_checkpoint) as local:
        base = materialise(spec.model, Path(), weights=False)
        done = publish_run(registry, run_id, spec, base, local, data, result, after.canary, cost)
    return registry.card(done.adapter, done.version)


def publish_folder(registry: Registry, folder: Path, name: str | None, base: str | None) -> AdapterCard:
    """Publish an adapter that PEFT saved. It has no scores and no canary.

    Args:
        base: its base model; None: the one that its configuration names.

    Raises:
        RegistryError: the folder has no LoRA adapter that can be served.
        ModelError: the base model is not found.
        UserError: no name was given.
    """
    config = servable_config(folder)
    if name is None:
        raise UserError(
            "An adapter from a folder needs a name.", where="--name", fix="Add a name, as in --name my-adapter."
        )
    return registry.publish(name, folder, draft_of(config, base or str(config.get("base_model_name_or_path") or "")))


def servable_config(folder: Path) -> dict[str, Any]:
    """PEFT's adapter_config.json of an adapter that vLLM can serve.

    Raises:
        RegistryError: it is missing, not LoRA, or asks for what vLLM does not serve.
    """
    file = folder / CONFIG
    config = read_config(file)
    _refuse_dora(bool(config.get("use_dora")), str(file))
    if config.get("bias", "none") != "none" or config.get("modules_to_save"):
        what = "The adapter trains biases or whole modules, which vLLM cannot serve."
        raise RegistryError(what, where=f"{file}: bias, modules_to_save", fix="Train it with LoRA matrices only.")
    return config


def _refuse_dora(dora: bool, where: str) -> None:
    if dora:
        raise RegistryError("vLLM cannot serve DoRA adapters.", where=where, fix="Train with lora.dora: false.")


def draft_of(config: dict[str, Any], base: str) -> CardDraft:
    """The card of an adapter that came from a folder."""
    if not base:
        what = "The adapter's configuration does not name its base model."
        raise RegistryError(what, where="adapter_config.json: base_model_name_or_path", fix="Name it with --base.")
    found = materialise(ModelSpec.model_validate({"source": model_source(base, Path.cwd())}), Path.cwd())
    targets = config.get("target_modules") or []
    return CardDraft(
        base_model=found.label,
        base_digest=found.digest,
        base_kind=found.kind,
        rank=config["r"],
        alpha=float(config.get("lora_alpha", config["r"])),
        targets=[targets] if isinstance(targets, str) else sorted(targets),
        rslora=bool(config.get("use_rslora")),
        method="unknown",
        run_id="",
        data_digest="",
        scores={},
        cost_usd=0,
        canary=None,
    )
