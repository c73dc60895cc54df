"""Publishing a run's adapter: the card, the version, the alias."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from registry.adapters import Registry
from registry.card import Canary, CardDraft, ScoreEntry
from runspec.errors import ConflictError
from runspec.run import RunSpec
from runspec.strict import Strict
from training.evaluation.results import EvaluationResult
from training.model.base_model import BaseModel
from training.run.results import CuratedRun

log = logging.getLogger(__name__)


class Publication(Strict):
    """Where a run's adapter was published."""

    adapter: str
    version: int
    alias: str | None
    """The alias that points to it now; None where none was to be moved, or another publisher moved it first."""
    path: str
    """Its folder, below the store's root."""


def publish_run(
    registry: Registry,
    run_id: str,
    spec: RunSpec,
    base: BaseModel,
    folder: Path,
    data: CuratedRun,
    result: EvaluationResult,
    canary: Canary | None,
    cost_usd: float,
) -> Publication:
    """Publish the adapter in `folder` as the next version of its name, and move the run file's alias to it.

    A run is published once: a version that carries this run's id already is taken for the one to publish.

    Args:
        folder: holds adapter_config.json and adapter_model.safetensors.
        cost_usd: what the run cost until now.

    Raises:
        RegistryError, StoreError: the registry cannot be written.
    """
    name = spec.adapter_name
    published = _published_before(registry, name, run_id)
    if published is None:
        _name_base(folder, base.label)
        published = registry.publish(
            name,
            folder,
            CardDraft(
                base_model=base.label,
                base_digest=base.digest,
                base_kind=base.kind,
                rank=spec.lora.rank,
                alpha=spec.lora.alpha,
                targets=[spec.lora.targets] if isinstance(spec.lora.targets, str) else list(spec.lora.targets),
                rslora=spec.lora.rslora,
                method=spec.method.kind,
                run_id=run_id,
                data_digest=data.digest,
                scores=_scores(result),
                cost_usd=cost_usd,
                canary=canary,
            ),
        ).version
    alias = _move_alias(registry, name, published, spec.publish.alias if spec.publish else None, f"run {run_id}")
    return Publication(adapter=name, version=published, alias=alias, path=f"adapters/{name}/versions/{published}")


def _move_alias(registry: Registry, name: str, version: int, alias: str | None, reason: str) -> str | None:
    """Point the alias to the version; None where none was asked for, or somebody else moved it in this moment."""
    if alias is None:
        return None
    try:
        registry.promote(name, version, alias, expected=registry.aliases(name).get(alias), reason=reason)
    except ConflictError:
        log.warning("%s@%s was moved by somebody else and is left where it is", name, alias)
        return None
    return alias


def _published_before(registry: Registry, name: str, run_id: str) -> int | None:
    if name not in registry.names():
        return None
    versions = reversed(registry.versions(name))
    return next((version for version in versions if registry.card(name, version).run_id == run_id), None)


def _name_base(folder: Path, label: str) -> None:
    """Put the base model's name where PEFT put this machine's path to it."""
    file = folder / "adapter_config.json"
    config = json.loads(file.read_text())
    config["base_model_name_or_path"] = label
    file.write_text(json.dumps(config, indent=2))


def _scores(result: EvaluationResult) -> dict[str, ScoreEntry]:
    return {
        metric: ScoreEntry(
            before=result.base[metric].mean,
            after=tuned.mean,
            gain=result.gain[metric].mean,
            low=result.gain[metric].low,
            high=result.gain[metric].high,
            n=tuned.n,
        )
        for metric, tuned in result.tuned.items()
    }
