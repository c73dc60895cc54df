"""Publishing by hand: a run that was kept, or a folder that PEFT wrote."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from runspec.errors import GateError, RegistryError, UserError

if TYPE_CHECKING:
    from registry.adapters import Registry
    from registry.card import AdapterCard, CardDraft


def publish_kept_run(registry: Registry, wanted: str, name: str | None, *, despite_gate: bool) -> AdapterCard:
    """Publish what a run trained, from what it left in the store. No alias is moved.

    Raises:
        UserError: there is no such run, or it was not measured to its end.
        GateError: it did not pass its gate, and `despite_gate` is false.
    """
    from cluster.store.runs import find_run

    store = registry.store
    run_id = find_run(store, wanted)
    folder = f"runs/{run_id}"
    if not store.exists(f"{folder}/evaluation/result.json"):
        fix = f"guitarfish train --resume {run_id}"
        raise UserError(f"the run {run_id} has not finished", where=f"{store.uri}/{folder}", fix=fix)
    return _publish_run(registry, run_id, name, despite_gate=despite_gate)


def _publish_run(registry: Registry, run_id: str, name: str | None, *, despite_gate: bool) -> AdapterCard:
    from cluster.billing.ledger import Ledger
    from runspec.publish import PublishSpec
    from runspec.run import RunSpec
    from training.curation.curated import data_run_of, read_curated
    from training.evaluation.results import After, EvaluationResult
    from training.model.adapter_files import adapter_files
    from training.model.base_model import materialise
    from training.run.publication import publish_run
    from training.run.results import TrainingResult

    store, folder = registry.store, f"runs/{run_id}"
    result = EvaluationResult.model_validate_json(store.read(f"{folder}/evaluation/result.json"))
    if not result.verdict.passed and not despite_gate:
        fix = f"{' '.join(result.verdict.reasons)} To publish it all the same: --despite-gate"
        raise GateError(f"the run {run_id} did not pass its gate", where=f"{store.uri}/{folder}", fix=fix)
    spec = RunSpec.model_validate_json(store.read(f"{folder}/spec.json"))
    _refuse_dora(spec.lora.dora, run_id)
    spec = spec.model_copy(update={"publish": PublishSpec(adapter=name or spec.adapter_name, alias=None)})
    data = read_curated(store, data_run_of(store, run_id))
    after = After.model_validate_json(store.read(f"{folder}/evaluation/after.json"))
    training = TrainingResult.model_validate_json(store.read(f"{folder}/training.json"))
    cost = sum(attempt.cost_usd for attempt in Ledger(store, run_id).attempts())
    with adapter_files(store, training.best_checkpoint) as local:
        base = materialise(spec.model, Path(), weights=False)
        done = publish_run(registry, run_id, spec, base, local, data, result, after.canary, cost)
    return registry.card(done.adapter, done.version)


def publish_folder(registry: Registry, folder: Path, name: str | None, base: str | None) -> AdapterCard:
    """Publish an adapter that PEFT saved. It has no scores and no canary.

    Args:
        name: the adapter's name in the registry.
        base: its base model; what its configuration names, without it.

    Raises:
        RegistryError: the folder holds no LoRA adapter that could be served.
        ModelError: the base model is not there.
        UserError: no name was given.
    """
    config = servable_config(folder)
    if name is None:
        raise UserError("an adapter from a folder needs a name", where="--name", fix="--name my-adapter")
    return registry.publish(name, folder, draft_of(config, base or str(config.get("base_model_name_or_path") or "")))


def servable_config(folder: Path) -> dict[str, Any]:
    """PEFT's adapter_config.json of an adapter that vLLM can serve.

    Raises:
        RegistryError: it is missing, not LoRA, or asks for what vLLM does not serve.
    """
    from registry.weights import CONFIG, read_config

    file = folder / CONFIG
    config = read_config(file)
    _refuse_dora(bool(config.get("use_dora")), str(file))
    if config.get("bias", "none") != "none" or config.get("modules_to_save"):
        what = "the adapter trains biases or whole modules, which vLLM cannot serve"
        raise RegistryError(what, where=f"{file}: bias, modules_to_save", fix="train it with LoRA matrices alone")
    return config


def _refuse_dora(dora: bool, where: str) -> None:
    if dora:
        raise RegistryError("vLLM cannot serve DoRA adapters", where=where, fix="train with lora.dora: false")


def draft_of(config: dict[str, Any], base: str) -> CardDraft:
    """The card of an adapter that came from a folder."""
    from guitarfish.actions.sources import model_source
    from registry.card import CardDraft
    from runspec.model import ModelSpec
    from training.model.base_model import materialise

    if not base:
        what = "the adapter's configuration does not name its base model"
        raise RegistryError(what, where="adapter_config.json: base_model_name_or_path", fix="name it with --base")
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
