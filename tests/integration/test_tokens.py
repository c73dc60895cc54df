"""Tokens of a run: made once, by the driver; workers and trials map them, and need no rows and hash nothing."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from support.tiny_model import write_run_file, write_tiny_model
from support.tiny_run import local_job

from cluster.store.storage import Store, open_store
from runspec.load import load_run, resolved
from runspec.strategy import Ddp
from training.curation.curated import store_curated
from training.data.rows import read_examples
from training.methods import sft
from training.run.pipeline import Run
from training.run.preparation import prepare_data
from training.run.run_folder import TrainingFolder
from training.tokens.arrow import map_tokens
from training.worker.job import LocalContext, TrainJob
from training.worker.worker import train_on_worker
from tuning.space import trial_run_id, trial_spec, trials_of

pytestmark = [pytest.mark.integration, pytest.mark.slow]

TRAINING = {
    "batch_size_per_device": 2,
    "gradient_accumulation": 1,
    "max_steps": 2,
    "checkpoint_every_steps": 1,
    "holdout_loss_rows": 4,
}
TUNING = {"ranks": [2, 4], "learning_rates": {"kind": "list", "values": [1e-3]}, "trials": 2, "grace_steps": 1}
PAIR = {"chosen": "a lamp", "rejected": "a fan"}
ROWS = {
    "sft": lambda n: {"prompt": f"turn on lamp {n}", "completion": "a lamp"},
    "dpo": lambda n: {"prompt": f"turn on lamp {n}", **PAIR},
    "orpo": lambda n: {"prompt": f"turn on lamp {n}", **PAIR},
    "kto": lambda n: {"prompt": f"turn on lamp {n}", "completion": "a fan" if n % 2 else "a lamp", "label": n % 2 == 0},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("tokens")
    write_tiny_model(made / "model")
    return made


@pytest.fixture
def prepared(folder: Path, tmp_path: Path) -> Any:
    """Makes a run of a method, whose data is in a store of its own."""

    def make(method: str = "sft", **sections: object) -> tuple[str, Any]:
        rows = [ROWS[method](number) for number in range(60)]
        (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        hardware = {"workers": 1, "accelerator": "cpu", "cpus_per_worker": 1}
        sections |= {"method": {"kind": method}, "training": TRAINING, "hardware": hardware}
        spec = resolved(load_run(write_run_file(folder, store=str(tmp_path / "store"), **sections)))
        store_curated(TrainingFolder(open_store(spec.store), "run-1"), prepare_data(spec, folder))
        return "run-1", spec

    return make


def forbid(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on a file that is hashed or a row that is tokenised fails the test."""

    def refuse(*_: object) -> Any:
        raise AssertionError("this was done before")

    monkeypatch.setattr(hashlib, "file_digest", refuse)
    monkeypatch.setattr(sft, "tokenize_rows", refuse)


def hide_rows(store: Store) -> None:
    for file in (Path(store.uri) / "runs/run-1/data").glob("*.jsonl"):
        file.unlink()


def test_two_trials_train_on_one_set_of_tokens(prepared: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    search, spec = prepared(tuning=TUNING)
    store, job = open_store(spec.store), local_job("run-1", spec, Ddp())
    hide_rows(store)
    forbid(monkeypatch)
    for trial in trials_of(spec):
        name = trial_run_id(search, trial.number)
        context = LocalContext(tmp_path / name)
        train_on_worker(TrainJob(name, trial_spec(spec, trial), Ddp(), job.base, job.tokens), context)
        (metrics, _) = context.saved[-1]
        assert metrics["step"] == 2
        assert metrics["holdout_loss"] > 0
    assert store.walk("runs/run-1/tokens") == [f"runs/run-1/tokens/{side}.arrow" for side in ("holdout", "train")]


def test_a_run_that_is_resumed_maps_what_its_first_driver_made(
    prepared: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, spec = prepared()
    store = open_store(spec.store)
    folder = TrainingFolder(store, "run-1")
    run = Run(folder, spec, Ddp(), None, None, lambda event: None, lambda: False)  # type: ignore[arg-type]
    first = run.tokens()
    forbid(monkeypatch)
    assert dataclasses.replace(run, folder=TrainingFolder(store, "run-1")).tokens() == first
    assert first.holdout is not None
    assert sum(first.holdout.fates.values()) == TRAINING["holdout_loss_rows"]


@pytest.mark.parametrize("method", ROWS)
def test_what_is_mapped_is_what_the_method_made(prepared: Any, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from training.tokens import arrow as module

    made: list[Any] = []
    _, spec = prepared(method)
    load = module.load_method

    def keeping(kind: str) -> Any:
        real = load(kind)

        class Kept:
            can_train_on = staticmethod(real.can_train_on)

            def tokenize_rows(self, *args: Any) -> Any:
                made.append(real.tokenize_rows(*args))
                return made[-1]

        return Kept()

    monkeypatch.setattr(module, "load_method", keeping)
    store, job = open_store(spec.store), local_job("run-1", spec, Ddp())
    for side, rows in zip(("train", "holdout"), made, strict=True):
        mapped = map_tokens(store, job.tokens, side)  # type: ignore[arg-type]
        assert mapped.features == rows.dataset.features
        assert mapped.to_list() == rows.dataset.to_list()
    assert (job.tokens.train, job.tokens.holdout) == tuple(rows.counts for rows in made)
    train = read_examples(store, "run-1", "train")
    good = sum(row.label is not False for row in train)
    assert (job.tokens.good, job.tokens.bad) == (good, len(train) - good)
    assert bool(job.tokens.bad) == (method == "kto")


def test_tokens_of_a_remote_store_are_fetched_once_a_machine(
    prepared: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, spec = prepared()
    store, job = open_store(spec.store), local_job("run-1", spec, Ddp())
    here = map_tokens(store, job.tokens, "train").to_list()
    monkeypatch.setenv("GUITARFISH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(Store, "local_file", lambda *_: None)
    assert map_tokens(store, job.tokens, "train").to_list() == here
    monkeypatch.setattr(Store, "download", None)
    assert map_tokens(store, job.tokens, "train").to_list() == here
