"""Runs at every stage in a real store, made through the project's own models; nothing is trained."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from support.planned_runs import machine, spec

from cluster.billing.ledger import AttemptWriter, Ledger, Outcome
from cluster.billing.prices import Price
from cluster.store.runs import KindRecord, RunKind
from cluster.store.storage import Store
from runspec.run import RunSpec
from training.curation.curated import store_curated
from training.data.example import Example
from training.data.rows import read_examples
from training.evaluation.results import After, Before, Drift, EvaluationResult, Measurement, summarise
from training.planning.prediction import predict
from training.run.pipeline import Finished, receipt_of
from training.run.preparation import prepare_data
from training.run.publication import Publication
from training.run.results import TrainingResult
from training.run.run_folder import TrainingFolder

Say = Callable[[Example], str]
BASE_MODEL = "HuggingFaceTB/SmolLM2-135M"
ROWS = [{"prompt": f"turn on lamp number {n}", "completion": f"lamp {n} is on"} for n in range(60)]
PRICE = Price(usd_per_hour=3.6, source="run file", date=date(2026, 11, 24))
CHECKPOINT = "checkpoint_2026-11-24_12-00-00.000000"


def right(example: Example) -> str:
    """What it should say."""
    return example.reference


def wrong(example: Example) -> str:
    """What the untuned model says."""
    return "I do not know."


@dataclass
class StoredRun:
    """A run whose stages are written one by one."""

    store: Store
    folder: Path
    run_id: str = "homes-20261124-120000-abcd"
    values: dict[str, Any] = field(default_factory=dict)
    rows: Sequence[dict[str, Any]] = field(default_factory=lambda: list(ROWS))
    spec: RunSpec = field(init=False)
    before: Before = field(init=False)
    training: TrainingResult = field(init=False)
    after_: After = field(init=False)
    result: EvaluationResult = field(init=False)

    def write(self, name: str, model: Any) -> None:
        self.store.create(f"runs/{self.run_id}/{name}", model.model_dump_json(indent=1).encode())

    def begin(self, *, plan: bool = True, kind: RunKind | None = "train") -> StoredRun:
        """Spec, kind, data and plan; without a kind, as an earlier version wrote it."""
        file = self.folder / "rows.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in self.rows))
        values = {
            "name": "homes",
            "store": self.store.uri,
            "data__source__path": str(file),
            "data__holdout__kind": "split",
            "data__holdout__fraction": 0.4,
        }
        self.spec = spec(BASE_MODEL, **(values | self.values))
        self.write("spec.json", self.spec)
        if kind is not None:
            self.write("kind.json", KindRecord(kind=kind))
        store_curated(TrainingFolder(self.store, self.run_id), prepare_data(self.spec, self.folder))
        if plan:
            prediction, _ = predict(self.spec, machine(), rows=36)
            assert prediction is not None
            self.write("plan.json", prediction)
        return self

    def attempt(self, outcome: Outcome | None = "finished", *, step: int = 40, **seconds: float) -> AttemptWriter:
        """One attempt of the ledger; without an outcome it is still going on."""
        writer = Ledger(self.store, self.run_id).start(machine(), workers=2, price=PRICE)
        spent = seconds or {"starting": 30.0, "training": 100.0, "evaluating": 50.0}
        if outcome is None:
            writer.progress(step=step, tokens=500, seconds=spent)
        else:
            reason = "" if outcome == "finished" else f"it {outcome}"
            writer.end(outcome, reason=reason, step=step, tokens=900, recomputed_steps=3, seconds=spent)
        return writer

    def examples(self) -> list[Example]:
        return read_examples(self.store, self.run_id, "holdout")

    def measure(self, say: Say, loss: float) -> Measurement:
        """A model that says `say(row)`."""
        rows = self.examples()
        answers = [say(row) for row in rows]
        return Measurement(
            metrics={
                "exact_match": [float(one == row.reference) for one, row in zip(answers, rows, strict=True)],
                "loss": [loss + place / 100 for place in range(len(rows))],
            },
            answers=answers,
            references=[row.reference for row in rows],
            origins=[row.origin for row in rows],
            cut_short=[len(one) > 10_000 for one in answers],
            shots=[0] * len(rows),
            seconds=1.0,
            tokens_generated=100,
        )

    def measured_before(self, say: Say = wrong, few_shot: Say | None = wrong) -> StoredRun:
        shots = self.measure(few_shot, 2.0) if few_shot else None
        self.before = Before(base=self.measure(say, 3.0), few_shot=shots, continuations=None)
        self.write("evaluation/before.json", self.before)
        return self

    def trained(self, history: list[dict[str, Any]] | None = None, *, ended: bool = True) -> StoredRun:
        """The trainer's state of the last checkpoint, and with `ended` what training gave."""
        state = {"log_history": losses(40) if history is None else history, "max_steps": 40, "global_step": 40}
        path = f"runs/{self.run_id}/checkpoints/{CHECKPOINT}"
        self.store.create(f"runs/{self.run_id}/checkpoints/checkpoint_manager_snapshot.json", b"{}")
        self.store.create(f"{path}/trainer_state.json", json.dumps(state).encode())
        self.training = TrainingResult(
            steps=40, tokens=9000, best_step=30, best_holdout_loss=0.7, best_checkpoint=path, last_checkpoint=path
        )
        if ended:
            self.write("training.json", self.training)
        return self

    def measured_after(self, say: Say = right, drift: float | None = 0.2) -> StoredRun:
        moved = None if drift is None else drift_of(drift)
        self.after_ = After(tuned=self.measure(say, 0.5), drift=moved, canary=None)
        self.write("evaluation/after.json", self.after_)
        before, after = self.before, self.after_
        self.result = summarise(before.base, before.few_shot, after.tuned, after.drift, self.spec.gate)
        self.write("evaluation/result.json", self.result)
        return self

    def finished(self) -> StoredRun:
        """Published where the gate was passed, and the receipt."""
        publication = None
        if self.result.verdict.passed and self.spec.publish is not None:
            publication = Publication(adapter="homes", version=3, alias="prod", path="adapters/homes/versions/3")
            self.write("publication.json", publication)
        receipt_of(TrainingFolder(self.store, self.run_id), Finished(self.result, self.training, publication))
        return self

    def whole(self, before: Say = wrong, after: Say = right) -> StoredRun:
        """All of it."""
        self.begin().attempt()
        return self.measured_before(before).trained().measured_after(after).finished()


def losses(steps: int, *, every: int = 10) -> list[dict[str, Any]]:
    """What a trainer writes down."""
    found: list[dict[str, Any]] = []
    for step in range(1, steps + 1):
        found.append({"step": step, "loss": 3.0 / step + 0.5, "learning_rate": 2e-4 * (1 - step / steps)})
        if step % every == 0:
            found.append({"step": step, "eval_loss": 3.0 / step + 0.6})
    return found


def drift_of(kl: float) -> Drift:
    return Drift(
        mean_kl=kl, kl_low=kl / 2, kl_high=kl * 2, base_loss=0.5, tuned_loss=0.9, loss_rise=0.4, n_prompts=2,
        n_tokens=20, kl_by_prompt=[kl * 10] * 2, base_nll_by_prompt=[5.0] * 2, tuned_nll_by_prompt=[9.0] * 2,
        tokens_by_prompt=[10] * 2,
    )  # fmt: skip
