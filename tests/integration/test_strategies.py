"""Strategies on two gloo workers: ZeRO-3 over NF4 learns what DDP learns, holds half, and survives a lost worker."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support.adapters import draft
from support.tiny_model import write_rows, write_run_file, write_tiny_model
from support.tiny_run import losses, train_only

from cluster.billing.ledger import Ledger
from cluster.store.storage import Store
from registry.adapters import Registry
from runspec.lora import LoraSpec
from training.model.adapter_files import adapter_files
from training.run.results import TrainingResult
from training.worker.job import Event

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.usefixtures("ray_session"),
]

MODEL = {"source": {"kind": "folder", "path": "model"}, "dtype": "bfloat16"}
TRAINING = {
    "learning_rate": 1e-2,
    "batch_size_per_device": 2,
    "gradient_accumulation": 2,
    "max_steps": 6,
    "checkpoint_every_steps": 3,
    "holdout_loss_rows": 4,
}


@dataclass(frozen=True)
class Trained:
    """A training run and what its workers said."""

    store: Store
    run_id: str
    result: TrainingResult
    events: list[Event]

    def weights(self) -> dict[str, Any]:
        """The adapter's weights."""
        from safetensors.torch import load

        return load(self.store.read(f"{self.result.last_checkpoint}/adapter_model.safetensors"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("strategies")
    write_tiny_model(made / "model")
    write_rows(made / "rows.jsonl")
    return made


def trained(folder: Path, strategy: str, kill_after_step: int | None = None) -> Trained:
    """Train with a strategy; where asked, the first worker is killed after a step."""
    events: list[Event] = []

    def show(event: Event) -> None:
        events.append(event)
        pids = [int(each.values["pid"]) for each in events if each.kind == "group_started"]
        if event.kind == "step" and event.step == kill_after_step and len(pids) == 1:
            os.kill(pids[0], signal.SIGKILL)

    sections: dict[str, Any] = {
        "strategy": {"kind": strategy},
        "model": MODEL,
        "training": TRAINING,
        "store": str(folder / strategy),
    }
    store, run_id, result = train_only(write_run_file(folder, **sections), show)
    return Trained(store, run_id, result, events)


@pytest.fixture(scope="module")
def ddp(folder: Path) -> Trained:
    """What ZeRO-3 is compared with."""
    return trained(folder, "ddp")


@pytest.fixture(scope="module")
def zero3(folder: Path) -> Trained:
    """A run that loses a worker after its fourth step, one after a checkpoint."""
    return trained(folder, "zero3", kill_after_step=4)


def test_zero3_over_nf4_agrees_with_ddp_though_a_worker_is_lost(ddp: Trained, zero3: Trained) -> None:
    assert losses(zero3.store, zero3.result) == pytest.approx(losses(ddp.store, ddp.result), rel=2e-3)
    lost, last = Ledger(zero3.store, zero3.run_id).attempts()
    assert (lost.outcome, last.outcome) == ("worker_lost", "finished")
    assert last.recomputed_steps <= TRAINING["checkpoint_every_steps"]


def test_each_rank_of_zero3_holds_half_of_the_four_bit_weights(ddp: Trained, zero3: Trained) -> None:
    shares = [event.values for event in zero3.events if event.kind == "weights"]
    assert sorted(share["rank"] for share in shares) == [0, 0, 1, 1]  # twice: a worker was killed
    for share in shares:
        assert share["held_bytes"] == pytest.approx(share["whole_bytes"] / 2, rel=0.05)
    (whole,) = {event.values["whole_bytes"] for event in ddp.events if event.kind == "weights"}
    assert {share["whole_bytes"] for share in shares} == {whole}


def test_an_adapter_trained_with_zero3_is_like_any_other(ddp: Trained, zero3: Trained, folder: Path) -> None:
    there, here = ddp.weights(), zero3.weights()
    assert {name: (each.shape, each.dtype) for name, each in here.items()} == {
        name: (each.shape, each.dtype) for name, each in there.items()
    }
    base = (folder / "model" / "model.safetensors").stat().st_size
    for path in zero3.store.walk(zero3.result.last_checkpoint):
        assert len(zero3.store.read(path)) < base / 2, f"{path} may hold the base model"
    registry = Registry(zero3.store)
    with adapter_files(zero3.store, zero3.result.last_checkpoint) as files:
        card = registry.publish("tiny", files, draft(rank=16, alpha=64, targets=list(LoraSpec().targets)))
    assert registry.verify("tiny", card.version).weights_sha256 == card.weights_sha256
