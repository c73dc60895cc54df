"""What is checked before a worker starts: scorers, data, base model, chat template, targets, attention."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.machine.session import on_a_cluster
from cluster.store.storage import Store, open_store
from registry.adapters import Registry
from runspec.errors import DataError, UserError
from runspec.model import HubModel, ModelSpec
from runspec.run import RunSpec
from training.curation.curate import Curated, curate
from training.data.example import Example
from training.evaluation.scorers import build_scorers, check_references
from training.methods.method import load_method
from training.model.base_model import BaseModel, load_tokenizer, materialise, skeleton
from training.model.lora import check_start, check_targets
from training.tokens.chat import check_template

TEMPLATE_ROWS = 20
"""How many of the first rows the chat template is tried on: they show most shapes of conversations."""


@dataclass(frozen=True)
class LookedAt:
    """The base model of a run without its weights."""

    base: BaseModel
    tokenizer: Any


def prepare_data(spec: RunSpec, folder: Path) -> Curated:
    """Read, validate and split the data, and check that the hold-out can be scored.

    Args:
        folder: the run file's folder; any, where the spec's paths are absolute.

    Raises:
        DataError, SpecError: the first thing that is wrong.
    """
    scorers = build_scorers(spec.evaluation.scorers, folder)
    curated = curate(spec.data, folder, spec.seed, spec.method.layouts)
    good = [example for example in curated.holdout if example.is_good]
    if not good:
        raise DataError(
            f"All {len(curated.holdout)} held-out rows are labelled bad, so there is no answer to measure against.",
            where="data.holdout",
            fix="Hold out more rows, or name a hold-out with good answers.",
        )
    check_references(scorers, good)
    return curated


def look_at_model(spec: RunSpec, folder: Path, examples: list[Example], *, here: bool | None = None) -> LookedAt:
    """Find the base model and check that it can be trained on these examples as the run file asks.

    Args:
        here: the workers are on this machine, so that missing attention kernels are an error. None: they are, unless
            RAY_ADDRESS names a cluster.

    Raises:
        ModelError, DataError: the first thing that is wrong.
    """
    for package in ("torch", "transformers", "peft", "trl", "ray"):
        if importlib.util.find_spec(package) is None:
            raise UserError(f"The package {package} is not installed.", fix="Run: make setup")
    if here if here is not None else not on_a_cluster():
        good = sum(example.is_good for example in examples)
        load_method(spec.method.kind).remarks(spec, good, len(examples) - good)
    base = materialise(spec.model, folder)
    tokenizer = load_tokenizer(base, spec.model, folder)
    mixed_in = [example for example in examples if example.replay]
    for example in (*examples[:TEMPLATE_ROWS], *mixed_in[:TEMPLATE_ROWS]):
        check_template(tokenizer, example)
    if spec.lora.start_from is None:
        check_targets(skeleton(base, spec.model), spec.lora)
    else:
        registry = Registry(open_store(spec.store))
        found = registry.resolve(spec.lora.start_from)
        check_start(spec.lora, registry.card(found.name, found.version), base)
    return LookedAt(base, tokenizer)


def pin_start(spec: RunSpec, store: Store) -> RunSpec:
    """The same run, with the alias of the adapter it starts from replaced by its version.

    Raises:
        RegistryError: there is no such adapter.
    """
    if spec.lora.start_from is None:
        return spec
    found = Registry(store).resolve(spec.lora.start_from)
    pinned = spec.lora.model_copy(update={"start_from": f"{found.name}@{found.version}"})
    return spec.model_copy(update={"lora": pinned})


def why_not_looked_at(model: ModelSpec) -> str:
    """Why the base model cannot be checked without a download; empty where it can."""
    if importlib.util.find_spec("transformers") is None:
        return "transformers is not installed"
    if isinstance(model.source, HubModel):
        from huggingface_hub import try_to_load_from_cache

        cached = try_to_load_from_cache(model.source.id, "config.json", revision=model.source.revision)
        if not isinstance(cached, str):
            return f"{model.source.id} is not on this machine yet; training downloads it"
    return ""
