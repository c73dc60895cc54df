"""The training stage of a run by itself, with Ray and without: for tests that need no evaluation around it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cluster.billing.prices import price_of
from cluster.machine.hardware import detect
from cluster.store.runs import new_run_id
from cluster.store.storage import Store, open_store
from runspec.load import load_run, resolved
from runspec.run import RunSpec
from runspec.strategy import Concrete
from training.curation.curated import store_curated
from training.model.base_model import materialise
from training.planning.prediction import strategy_of
from training.run.driver import drive
from training.run.pipeline import Run, train_job
from training.run.preparation import pin_start, prepare_data
from training.run.results import TrainingResult
from training.run.run_folder import TrainingFolder
from training.tokens.arrow import write_tokens
from training.worker.job import Event, TrainJob
from training.worker.launcher import launch


def losses(store: Store, result: TrainingResult) -> dict[int, float]:
    """Loss of each step, from the trainer's own state in the last checkpoint."""
    state = store.read_json(f"{result.last_checkpoint}/trainer_state.json")
    return {entry["step"]: entry["loss"] for entry in state["log_history"] if "loss" in entry}


def train_only(run_file: Path, show: Callable[[Event], None] = lambda event: None) -> tuple[Store, str, TrainingResult]:
    """The training stage of a new run, with its ledger, without the evaluations around it."""
    spec = resolved(load_run(run_file))
    store, run_id = open_store(spec.store), new_run_id(spec.name)
    spec = pin_start(spec, store)
    folder = TrainingFolder(store, run_id)
    store_curated(folder, prepare_data(spec, run_file.parent))
    result = drive(
        folder,
        spec,
        strategy_of(spec, None, detect()),
        _train,
        hardware=detect(),
        price=price_of(detect(), spec.hardware.workers, 1.0),
        show=show,
    )
    return store, run_id, result


def _train(run: Run) -> TrainingResult:
    """Train on the driver's tokens: the rows are gone before a worker starts."""
    job = train_job(run)
    for side in ("train", "holdout"):
        (Path(run.store.uri) / f"runs/{run.run_id}/data/{side}.jsonl").unlink()
    return launch(job, run.placement, run.store, run.board)


def local_job(run_id: str, spec: RunSpec, strategy: Concrete) -> TrainJob:
    """What a worker without Ray is told of a run whose data is in its store."""
    base = materialise(spec.model, Path())
    return TrainJob(run_id, spec, strategy, base, write_tokens(open_store(spec.store), run_id, spec, base))
