"""Training through the command line on real Ray: outcomes, lost workers, killed drivers, Ctrl-C, resume."""

from __future__ import annotations

import json
import math
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import ray
from support.planted import PLANTED, find_in_folder, find_in_store
from support.report_pages import Page
from support.tiny_model import TRAINING, write_rows, write_run_file, write_tiny_model
from support.tiny_run import local_job, losses

from cluster.billing.ledger import Ledger, total_cost
from cluster.billing.prices import price_of
from cluster.machine.hardware import detect
from cluster.machine.session import connect
from cluster.store.storage import Store, open_store
from guitarfish.__main__ import run as guitarfish
from guitarfish.actions.running import begin_training
from registry.adapters import Registry
from runspec.errors import BudgetError
from runspec.load import load_run, resolved
from runspec.strategy import Ddp
from training.curation.curated import store_curated
from training.run.budget import budget_of
from training.run.driver import drive
from training.run.pipeline import receipt_of, run_stages
from training.run.preparation import prepare_data
from training.run.receipt import Receipt
from training.run.run_folder import TrainingFolder
from training.worker.job import Event, LocalContext
from training.worker.output import logs_folder
from training.worker.worker import train_on_worker

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(600)]

STEPS, CHECKPOINT_EVERY = 24, 4
LONGER = TRAINING | {"max_steps": STEPS, "checkpoint_every_steps": CHECKPOINT_EVERY}
ONE_WORKER = {"workers": 1, "accelerator": "cpu", "cpus_per_worker": 1, "price_usd_per_hour": 1.0}
GUITARFISH = (sys.executable, "-m", "guitarfish")


class PaidClock:
    """Real time, and as much of it ahead as the test wants to have paid for already."""

    ahead = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model and the rows that every test here trains on."""
    made = tmp_path_factory.mktemp("training")
    write_tiny_model(made / "model")
    write_rows(made / "rows.jsonl")
    return made


@pytest.fixture
def started(folder: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts `guitarfish` in the background; what is left of it is ended by its process group."""
    running: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*GUITARFISH, *arguments],
            cwd=folder,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        running.append(process)
        return process

    yield start
    for process in running:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def train(*arguments: str, expect: int = 0) -> Receipt:
    """Run `guitarfish train` to its end and give the receipt it prints."""
    with redirect_stdout(StringIO()) as printed:
        assert guitarfish(["train", *arguments, "--json"]) == expect
    return Receipt.model_validate_json(printed.getvalue())


def wait_for(what: Callable[[], Any], process: subprocess.Popen[str], seconds: float = 240) -> Any:
    """What `what` gives as soon as that is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = what()
        if found:
            return found
        if process.poll() is not None:
            raise AssertionError(f"ended too early, with {process.returncode}: {process.communicate()[1][-3000:]}")
        time.sleep(0.05)
    raise AssertionError(f"did not come about in {seconds} s")


def checkpoints(store: Store, run_id: str) -> list[str]:
    names = store.list(f"runs/{run_id}/checkpoints")
    return [name for name in names if store.exists(f"runs/{run_id}/checkpoints/{name}/trainer_state.json")]


@pytest.fixture(scope="module")
def whole(folder: Path, ray_session: None) -> tuple[Store, Receipt]:
    """An uninterrupted run on two workers, which the others are compared with."""
    run_file = write_run_file(folder, store=str(folder / "whole"), training=LONGER)
    return open_store(str(folder / "whole")), train(str(run_file))


def test_a_process_that_is_connected_stays_so(ray_session: None) -> None:
    with connect() as session:
        assert not session.own
        assert session.here
    assert ray.is_initialized()


def test_a_run_learns_publishes_and_accounts(whole: tuple[Store, Receipt]) -> None:
    store, receipt = whole
    curve = losses(store, receipt.training)
    assert list(curve) == list(range(1, STEPS + 1))
    assert curve[STEPS] < curve[1] - 0.2
    assert receipt.outcome == "published"
    assert receipt.evaluation.gain["loss"].low > 0
    assert receipt.evaluation.drift is not None
    assert receipt.evaluation.drift.mean_kl > 0
    assert receipt.usd > 0
    assert receipt.seconds_by_phase["training"] > 0
    card = Registry(store).verify("tiny", Registry(store).resolve("tiny").version)
    assert card.run_id == receipt.run_id
    assert card.canary is not None
    assert card.canary.tuned_logprobs != card.canary.base_logprobs


def test_a_run_keeps_its_report(whole: tuple[Store, Receipt]) -> None:
    store, receipt = whole
    assert receipt.places["report"] == f"{store.uri}/runs/{receipt.run_id}/report.html"
    page = Page(store.read(f"runs/{receipt.run_id}/report.html").decode())
    assert page.dangers() == []
    assert "Published as tiny@1. tiny@prod points to it." in page.text
    assert "taken: step" in page.section("curves")
    assert "training loss, each step" in page.section("curves")
    assert "hold-out loss, at checkpoints" in page.section("curves")
    assert "ratio" in page.section("plan")
    assert "has not been measured" not in page.text


def test_a_checkpoint_holds_the_adapter_and_never_the_base(whole: tuple[Store, Receipt], folder: Path) -> None:
    store, receipt = whole
    names = {path.rpartition("/")[2] for path in store.walk(receipt.training.last_checkpoint)}
    assert {"adapter_model.safetensors", "optimizer.pt", "scheduler.pt", "trainer_state.json"} <= names
    assert {"rng_state_0.pth", "rng_state_1.pth"} <= names
    assert "model.safetensors" not in names
    assert len(checkpoints(store, receipt.run_id)) <= 2
    base = (folder / "model" / "model.safetensors").stat().st_size
    assert len(store.read(f"{receipt.training.last_checkpoint}/adapter_model.safetensors")) < base


@pytest.mark.soak
def test_a_killed_driver_and_a_killed_worker_cost_no_more_than_a_checkpoint_interval(
    whole: tuple[Store, Receipt],
    folder: Path,
    started: Callable[..., subprocess.Popen[str]],
    fresh_s3_store_uri: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """First the driver, which leaves nothing half, and once the run is taken up again, a worker.

    Checkpoints, ledger and registry are in a bucket; what was planted in the environment is in none of them.
    """
    for name, value in PLANTED.items():
        monkeypatch.setenv(name, value)
    store = open_store(fresh_s3_store_uri)
    process = started("train", str(write_run_file(folder, store=store.uri, training=LONGER)))
    run_id = wait_for(lambda: store.list("runs"), process)[0]
    wait_for(lambda: checkpoints(store, run_id), process)
    process.kill()
    process.communicate()
    assert Registry(store).names() == []

    ray.shutdown()  # the next is started in a folder of its own
    pids: list[int] = []
    doomed = random.choice((17, 20, 23))  # right after a checkpoint was kept, and right before the next

    def show(event: Event) -> None:
        if event.kind == "group_started":
            pids.append(int(event.values["pid"]))
        if event.kind == "step" and event.step == doomed and len(pids) == 1:
            os.kill(pids[0], signal.SIGKILL)

    run = TrainingFolder(store, run_id)
    spec, price = run.spec.read(), price_of(detect(), 2, 1.0)
    with ray_folder(monkeypatch) as ray_logs:
        finished = drive(run, spec, Ddp(), run_stages, hardware=detect(), price=price, show=show)
        secrets = [*PLANTED.values(), os.environ["AWS_SECRET_ACCESS_KEY"]]
        assert find_in_folder(ray_logs, secrets) == []
    assert len(pids) == 2, f"killed after step {doomed}"
    receipt = receipt_of(run, finished)
    driver_lost, worker_lost, last = Ledger(store, run_id).attempts()
    assert [each.outcome for each in receipt.attempts] == ["lost", "worker_lost", "finished"]
    assert driver_lost.step < doomed
    assert 0 <= last.recomputed_steps <= CHECKPOINT_EVERY
    assert (last.step, receipt.training.steps) == (STEPS, STEPS)
    seconds = worker_lost.seconds_total + last.seconds_total
    assert total_cost([worker_lost, last]).usd == pytest.approx(seconds / 3600)
    assert receipt.outcome == "published"
    assert losses(store, receipt.training) == pytest.approx(losses(whole[0], whole[1].training), rel=1e-3)
    assert Registry(store).versions("tiny") == [1]
    assert len(checkpoints(store, receipt.run_id)) <= 2  # older ones were deleted from the bucket
    assert find_in_store(store, secrets) == []
    assert find_in_folder(logs_folder(run_id), secrets) == []


@contextmanager
def ray_folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for what Ray writes, near the root: a socket's path may have 107 characters."""
    with tempfile.TemporaryDirectory(prefix="gf-ray-", dir="/tmp", ignore_cleanup_errors=True) as made:
        monkeypatch.setenv("RAY_TMPDIR", made)
        yield Path(made)
        assert any(Path(made).rglob("raylet.out")), "Ray wrote elsewhere, and nothing was looked at"


def test_a_worker_trains_without_ray(folder: Path, tmp_path: Path) -> None:
    run_file = write_run_file(folder, store=str(tmp_path / "store"))
    spec, run_id = resolved(load_run(run_file)), "tiny-without-ray"
    store_curated(TrainingFolder(open_store(spec.store), run_id), prepare_data(spec, run_file.parent))
    context = LocalContext(tmp_path / "checkpoints")
    train_on_worker(local_job(run_id, spec, Ddp()), context)
    assert [metrics["step"] for metrics, _ in context.saved] == [4, 8, 12]
    steps = [event for event in context.events if event.kind == "step"]
    assert len(steps) == 12
    assert steps[-1].values["loss"] < steps[0].values["loss"] - 0.2
    assert (context.saved[-1][1] / "adapter_model.safetensors").is_file()


def test_ctrl_c_checkpoints_and_says_how_to_go_on(folder: Path, started: Callable[..., subprocess.Popen[str]]) -> None:
    store = open_store(str(folder / "interrupted"))
    training = {"max_steps": 4000, "checkpoint_every_steps": 1000, "batch_size_per_device": 1, "holdout_loss_rows": 0}
    evaluation = {"rows": 2, "few_shot": 0, "general": None, "scorers": [{"kind": "loss"}]}
    sections = {"training": training, "evaluation": evaluation, "publish": None, "hardware": ONE_WORKER}
    process = started("train", str(write_run_file(folder, store=store.uri, **sections)))
    run_id = wait_for(lambda: store.list("runs"), process)[0]
    wait_for(lambda: any(attempt.step for attempt in Ledger(store, run_id).attempts()), process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=200)
    assert process.returncode == 130, errors[-3000:]
    assert f"guitarfish train --resume {run_id}" in errors
    assert "Traceback" not in errors
    (attempt,) = Ledger(store, run_id).attempts()
    assert attempt.outcome == "interrupted"
    (checkpoint,) = checkpoints(store, run_id)
    state = store.read_json(f"runs/{run_id}/checkpoints/{checkpoint}/trainer_state.json")
    assert state["global_step"] == attempt.step


def test_a_spent_budget_checkpoints_and_more_of_it_goes_on(
    whole: tuple[Store, Receipt], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One worker, whose steps have as many rows as two workers' have in the run that it is compared with."""
    hour = 3600.0
    clock = PaidClock()
    run_file = write_run_file(
        folder,
        store=str(folder / "budget"),
        training=LONGER | {"gradient_accumulation": 4},
        labels={"team": "tests"},
        budget={"max_usd": 0.5},
        evaluation={"rows": 6, "few_shot": 0, "general": None, "scorers": [{"kind": "loss"}]},
        publish=None,
        hardware=ONE_WORKER,
    )
    assert guitarfish(["train", str(run_file), "--budget", "0.000001"]) == 4  # the plan says that it is more
    assert "the plan's estimate is" in capsys.readouterr().err
    store = open_store(str(folder / "budget"))
    assert store.list("runs") == []

    run = begin_training(resolved(load_run(run_file)))
    run_id, spec = run.run_id, run.spec.read()

    def show(event: Event) -> None:
        if event.kind == "step" and event.step == 5:
            clock.ahead = hour

    hardware, price = detect(), price_of(detect(), 1, spec.hardware.price_usd_per_hour)
    budget = budget_of(spec.budget, [])
    with pytest.raises(BudgetError) as error:
        drive(run, spec, Ddp(), run_stages, hardware=hardware, price=price, show=show, budget=budget, clock=clock)
    (attempt,) = Ledger(store, run_id).attempts()
    assert (attempt.outcome, attempt.start.budget_usd) == ("over_budget", 0.5)
    assert 5 <= attempt.step < STEPS
    assert f"${attempt.cost_usd:.4f} so far; the checkpoint of step {attempt.step} is kept" in error.value.what
    latest = max(checkpoints(store, run_id))
    state = store.read_json(f"runs/{run_id}/checkpoints/{latest}/trainer_state.json")
    assert state["global_step"] == attempt.step

    assert guitarfish(["train", "--resume", run_id, "--store", store.uri]) == 4
    assert f"guitarfish train --resume {run_id} --budget" in capsys.readouterr().err
    assert len(Ledger(store, run_id).attempts()) == 1
    receipt = train("--resume", run_id, "--store", store.uri, "--budget", "20")
    assert [one.outcome for one in receipt.attempts] == ["over_budget", "finished"]
    assert receipt.attempts[1].recomputed_steps == 0
    two_workers = losses(whole[0], whole[1].training)
    assert losses(store, receipt.training) == pytest.approx(two_workers, rel=0.02)  # the same global batch

    assert guitarfish(["cost", run_id, "--store", store.uri, "--json"]) == 0
    bill = json.loads(capsys.readouterr().out)
    assert [line["budget_usd"] for line in bill["attempts"]] == [0.5, 20.0]
    assert bill["total"]["usd"] == pytest.approx(receipt.usd)
    assert bill["total"]["usd"] > 1.0
    assert bill["labels"] == {"team": "tests"}


def test_dpo_goes_on_from_an_adapter_with_pairs_of_its_own_answers(whole: tuple[Store, Receipt], folder: Path) -> None:
    store, first = whole
    run_file = write_run_file(
        folder,
        store=store.uri,
        evaluation={"scorers": [{"kind": "exact_match"}], "max_new_tokens": 6, "rows": 6},
        gate={"metric": "exact_match"},
        hardware=ONE_WORKER,
    )
    out = folder / "pairs"
    call = [
        "pairs",
        str(run_file),
        "--adapter",
        "tiny@1",
        "--out",
        str(out),
        "--rows",
        "20",
        "--samples",
        "2",
        "--or-reference",
    ]
    assert guitarfish(call) == 0
    rows = [json.loads(line) for line in (out / "pairs.jsonl").read_text().splitlines()]
    assert rows
    assert all(row["chosen"] != row["rejected"] for row in rows)

    dpo = write_run_file(
        folder,
        name="tiny-dpo",
        store=store.uri,
        data={
            "source": {"kind": "file", "path": "pairs/pairs.jsonl"},
            "holdout": {"kind": "source", "source": {"kind": "file", "path": "pairs/holdout.jsonl"}},
        },
        lora={"dropout": 0.0, "alpha": 64, "start_from": "tiny"},
        evaluation={"scorers": [{"kind": "loss"}], "rows": 6, "few_shot": 0, "general": None},
        method={"kind": "dpo"},
        training={"learning_rate": 1e-3, "batch_size_per_device": 2, "gradient_accumulation": 1, "max_steps": 4},
        publish={"adapter": "tiny-dpo"},
        hardware=ONE_WORKER,
    )
    receipt = train(str(dpo), expect=3)  # four steps on a handful of pairs do not pass the gate
    assert receipt.evaluation.started_from == "tiny@1"
    before, after = receipt.evaluation.base["loss"], first.evaluation.tuned["loss"]
    assert before.mean == pytest.approx(after.mean, rel=1e-3)  # the same adapter on the same rows, measured again
    assert receipt.training.steps == 4
    state = store.read_json(f"{receipt.training.last_checkpoint}/trainer_state.json")
    assert state["log_history"][0]["loss"] == pytest.approx(math.log(2), rel=1e-3)
