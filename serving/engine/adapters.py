"""Adapters for this server: which ones it can serve, and their copies on this machine's disk."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from cluster.machine.cache import cache_folder
from registry.adapters import Registry
from registry.card import AdapterCard
from registry.weights import CONFIG, WEIGHTS, AdapterFiles, checksums
from runspec.errors import ServingError
from serving.plan import ServePlan


def fetch_adapter(registry: Registry, name: str, version: int, plan: ServePlan) -> tuple[AdapterCard, Path]:
    """A version's card, and its folder on this machine, checked against the card and against what vLLM can serve.

    Raises:
        ServingError: this server cannot serve it.
        RegistryError: the version does not exist or is damaged.
        StoreError: the store does not answer.
    """
    card = registry.card(name, version)
    check_card(card, plan)
    # The digest is in the folder's name because the registries of two stores may both have `NAME@3`.
    folder = cache_folder("adapters") / f"{name}-{version}-{card.weights_sha256[:16]}"
    whole = all((folder / file).is_file() for file in (CONFIG, WEIGHTS))
    if not whole or checksums(folder) != AdapterFiles(card.config_sha256, card.weights_sha256):
        shutil.rmtree(folder, ignore_errors=True)
        registry.fetch(name, version, folder)
    check_folder(f"{name}@{version}", folder, plan)
    return card, folder


def check_card(card: AdapterCard, plan: ServePlan) -> None:
    """Refuse an adapter of another base model, or of a higher rank than the server was started for.

    Raises:
        ServingError: with both values.
    """
    name = f"{card.adapter}@{card.version}"
    if card.base_digest != plan.base_digest:
        raise ServingError(
            f"{name} was trained on {card.base_model} ({_short(card.base_digest)}), but this server has "
            f"{plan.base_name} ({_short(plan.base_digest)}).",
            where=f"adapter {name}",
            fix="Serve the base model that it was trained on.",
        )
    if card.rank > plan.spec.max_rank:
        raise ServingError(
            f"{name} has rank {card.rank}, but the server's limit is {plan.spec.max_rank}.",
            where=f"adapter {name}, serving.max_rank: {plan.spec.max_rank}",
            fix="Raise serving.max_rank and restart the server.",
        )


def check_folder(name: str, folder: Path, plan: ServePlan) -> None:
    """Refuse what vLLM rejects: DoRA, trained biases, whole modules saved with the adapter, too high a rank.

    Raises:
        ServingError: with the setting and its value.
    """
    config = json.loads((folder / CONFIG).read_text())
    rank = max([config.get("r", 0), *config.get("rank_pattern", {}).values()])
    rejected = {
        "use_dora: true": bool(config.get("use_dora")),
        f"bias: {config.get('bias')}": config.get("bias", "none") != "none",
        f"modules_to_save: {config.get('modules_to_save')}": bool(config.get("modules_to_save")),
        f"rank {rank} above serving.max_rank {plan.spec.max_rank}": rank > plan.spec.max_rank,
    }
    problems = [problem for problem, present in rejected.items() if present]
    if problems:
        raise ServingError(
            f"vLLM cannot serve {name}: {'; '.join(problems)}.",
            where=str(folder / CONFIG),
            fix="Train and publish a version without that.",
        )


def _short(digest: str) -> str:
    kind, colon, value = digest.rpartition(":")
    return f"{kind}{colon}{value[:12]}"
