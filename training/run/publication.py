"""Publishing a run's adapter: the card, the version, the alias."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from registry.adapters import Registry
from registry.card import Canary, CardDraft, ScoreEntry
from registry.references import ResolvedAdapter
from runspec.errors import ConflictError
from runspec.run import RunSpec
from runspec.strict import Strict
from training.evaluation.results import EvaluationResult
from training.model.base_model import BaseModel
from training.run.results import CuratedRun

log = logging.getLogger(__name__)


class Publication(Strict):
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

    A run is published once: where a version already has this run's id, only the alias is moved.

    Args:
        folder: holds adapter_config.json and adapter_model.safetensors.
        cost_usd: what the run has cost so far.

    Raises:
        RegistryError, StoreError: the registry cannot be written.
    """
    name = spec.adapter_name
    earlier = reversed(registry.versions(name)) if name in registry.names() else ()
    published = next((version for version in earlier if registry.card(name, version).run_id == run_id), None)
    if published is None:
        config_file = folder / "adapter_config.json"  # in which PEFT wrote the path on this machine
        config = json.loads(config_file.read_text()) | {"base_model_name_or_path": base.label}
        config_file.write_text(json.dumps(config, indent=2))
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
                scores={
                    metric: ScoreEntry(
                        before=result.base[metric].mean,
                        after=tuned.mean,
                        gain=result.gain[metric].mean,
                        low=result.gain[metric].low,
                        high=result.gain[metric].high,
                        n=tuned.n,
                    )
                    for metric, tuned in result.tuned.items()
                },
                cost_usd=cost_usd,
                canary=canary,
            ),
        ).version
    alias = spec.publish.alias if spec.publish else None
    if alias is not None:
        try:
            current = registry.aliases(name).get(alias)
            registry.promote(name, published, alias, expected=current, reason=f"run {run_id}")
        except ConflictError:
            log.warning("%s@%s was moved by another publisher just now, and is left there", name, alias)
            alias = None
    return Publication(adapter=name, version=published, alias=alias, path=ResolvedAdapter(name, published).folder)
