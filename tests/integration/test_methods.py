"""DPO, ORPO and KTO on the real trainers, one worker without Ray: losses fall, references hold, resume is exact."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from support.adapters import draft
from support.tiny_model import write_run_file, write_tiny_model
from support.tiny_run import local_job

from cluster.store.storage import open_store
from registry.adapters import Registry
from runspec.errors import ModelError
from runspec.load import load_run, resolved
from runspec.lora import LoraSpec
from runspec.run import RunSpec
from runspec.strategy import Ddp
from training.curation.curated import store_curated
from training.methods import dpo
from training.model.base_model import materialise
from training.planning.footprints import CPU_LENGTHS
from training.run.preparation import pin_start, prepare_data
from training.run.run_folder import TrainingFolder
from training.worker import watch
from training.worker.job import Event, LocalContext
from training.worker.worker import train_on_worker

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(600)]

PAIR = {"chosen": "yes, on", "rejected": "no, off"}
TRAINING = {
    "learning_rate": 1e-2,
    "batch_size_per_device": 4,
    "gradient_accumulation": 2,
    "max_steps": 4,
    "checkpoint_every_steps": 2,
    "holdout_loss_rows": 4,
}
GENTLE = TRAINING | {"learning_rate": 2e-4}
"""For an adapter that has learnt already."""
FROM_FIRST = {"alpha": 64, "dropout": 0.0, "start_from": "first@1"}


def pair(number: int) -> dict[str, object]:
    return {"prompt": f"turn on lamp {number}", **PAIR}


def verdict(number: int) -> dict[str, object]:
    good = number % 2 == 0
    return {"prompt": f"turn on lamp {number}", "completion": PAIR["chosen" if good else "rejected"], "label": good}


def plain(number: int) -> dict[str, object]:
    return {"prompt": f"turn on lamp {number}", "completion": PAIR["chosen"]}


@dataclass(frozen=True)
class Place:
    """A folder with the tiny model, where runs are made."""

    folder: Path

    def run(self, name: str, **sections: object) -> tuple[RunSpec, str]:
        """A run whose data is curated and stored."""
        make = {"kto": verdict, "sft": plain}.get(sections["method"]["kind"], pair)
        rows = [make(n) for n in range(60)]
        (self.folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        file = write_run_file(self.folder, **{"training": TRAINING, **sections})
        spec = resolved(load_run(file))
        store = open_store(spec.store)
        spec = pin_start(spec, store)
        store_curated(TrainingFolder(store, name), prepare_data(spec, self.folder))
        return spec, name

    def train(self, name: str, **sections: object) -> LocalContext:
        """Train one worker to the end."""
        spec, run_id = self.run(name, **sections)
        context = LocalContext(self.folder / name)
        train_on_worker(local_job(run_id, spec, Ddp()), context)
        return context

    def publish(self, context: LocalContext, name: str) -> None:
        """Put the adapter of the last checkpoint into the registry."""
        spec = resolved(load_run(self.folder / "run.yaml"))
        base = materialise(spec.model, Path())
        card = draft(
            base_digest=base.digest,
            base_kind=base.kind,
            rank=16,
            alpha=64,
            targets=list(LoraSpec().targets),
        )
        Registry(open_store(spec.store)).publish(name, context.saved[-1][1], card)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    made = tmp_path_factory.mktemp("methods")
    write_tiny_model(made / "model")
    return Place(made)


@pytest.fixture(scope="module")
def first(place: Place) -> LocalContext:
    """A DPO run from the bare base model, whose adapter is published as `first`."""
    context = place.train("dpo-first", method={"kind": "dpo"})
    place.publish(context, "first")
    return context


def losses(context: LocalContext) -> list[float]:
    return [event.values["loss"] for event in context.events if event.kind == "step"]


def holdout_losses(context: LocalContext) -> list[float]:
    return [metrics["holdout_loss"] for metrics, _ in context.saved]


@pytest.mark.parametrize("kind", ["orpo", "kto"])
def test_a_method_learns_to_tell_right_from_wrong(place: Place, kind: str) -> None:
    context = place.train(kind, method={"kind": kind})
    before = losses(context)[0]
    assert holdout_losses(context)[-1] < before - 0.02
    assert [metrics["step"] for metrics, _ in context.saved] == [2, 4]
    assert (context.saved[-1][1] / "adapter_model.safetensors").is_file()


@pytest.mark.parametrize("kind", ["sft", "dpo", "orpo", "kto"])
def test_on_a_cpu_the_lengths_of_batches_are_few(place: Place, kind: str) -> None:
    """Every new shape leaves a compiled kernel in memory: a worker that sees every length grows with its steps."""
    lengths: set[int] = set()

    def note(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        if isinstance(module, torch.nn.Embedding):
            lengths.add(inputs[0].shape[-1])

    hook = torch.nn.modules.module.register_module_forward_pre_hook(note)
    try:
        place.train(f"{kind}-lengths", method={"kind": kind}, training=TRAINING | {"max_steps": 2})
    finally:
        hook.remove()
    assert lengths
    assert all(length % CPU_LENGTHS == 0 for length in lengths), lengths


def test_dpo_begins_at_ln_2_and_learns(first: LocalContext) -> None:
    assert losses(first)[0] == pytest.approx(math.log(2), rel=1e-4)
    assert holdout_losses(first)[-1] < math.log(2) - 0.05


def test_dpo_from_an_adapter_is_held_to_that_adapter(place: Place, first: LocalContext) -> None:
    """With the bare base as its reference the loss would begin where the first run ended: well below ln 2."""
    context = place.train("dpo-second", method={"kind": "dpo"}, lora=FROM_FIRST, training=GENTLE)
    assert losses(context)[0] == pytest.approx(math.log(2), rel=1e-4)
    assert holdout_losses(context)[-1] < math.log(2)
    assert not (context.saved[-1][1] / "ref").exists()


def test_a_reference_that_is_not_the_start_stops_the_run(
    place: Place, first: LocalContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_reference(parts: object) -> None:
        parts.model.delete_adapter("ref")  # type: ignore[attr-defined]

    monkeypatch.setattr(dpo, "remove_unused_reference", without_reference)
    with pytest.raises(ModelError, match="the reference is not the model that the run started from"):
        place.train("dpo-wrong", method={"kind": "dpo"}, lora=FROM_FIRST)


def test_dpo_goes_on_from_a_checkpoint_with_the_same_reference(place: Place, first: LocalContext) -> None:
    """The second half again from the checkpoint of the first: the same losses as without the break."""
    spec, run_id = place.run("dpo-resumed", method={"kind": "dpo"}, lora=FROM_FIRST, training=GENTLE)
    whole = LocalContext(place.folder / "dpo-second")
    (half, _) = sorted(whole.folder.glob("checkpoint-*"))
    resumed = LocalContext(place.folder / run_id)
    shutil.copytree(half, resumed.folder / half.name)
    train_on_worker(local_job(run_id, spec, Ddp()), resumed)
    state = json.loads((whole.folder / "checkpoint-4" / "trainer_state.json").read_text())
    expected = [entry["loss"] for entry in state["log_history"] if "loss" in entry][2:]
    assert losses(resumed) == pytest.approx(expected, rel=1e-3)


def test_the_first_loss_may_not_be_off() -> None:
    watch._check_first_loss(0.6931, math.log(2))
    with pytest.raises(ModelError):
        watch._check_first_loss(0.60, math.log(2))


def test_accumulation_makes_no_difference_to_dpo(place: Place, first: LocalContext) -> None:
    other = TRAINING | {"batch_size_per_device": 8, "gradient_accumulation": 1}
    context = place.train("dpo-accumulated", method={"kind": "dpo"}, training=other)
    assert losses(context) == pytest.approx(losses(first), rel=0.02)


def test_events_say_what_the_reference_is(first: LocalContext) -> None:
    notes = [event.text for event in first.events if isinstance(event, Event) and event.text]
    assert any("reference: the base model" in note for note in notes)
