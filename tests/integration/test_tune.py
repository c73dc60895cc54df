"""The search through the command line on real Ray: budget, pruning, a trial that fails, one that is killed, resume."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from support.tiny_model import TRAINING, write_rows, write_run_file, write_tiny_model

from cluster.billing.ledger import Attempt, Ledger, total_cost
from cluster.store.runs import list_runs
from cluster.store.storage import Store, open_store
from guitarfish.__main__ import run as guitarfish
from runspec.load import load_run
from tuning.records import SearchResult

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(600)]

GUITARFISH = (sys.executable, "-m", "guitarfish")
ONE_CORE = {"workers": 1, "accelerator": "cpu", "cpus_per_worker": 1, "price_usd_per_hour": 3.6}
DIVERGES = 1e20


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model and the rows that every search here trains on."""
    made = tmp_path_factory.mktemp("tune")
    write_tiny_model(made / "model")
    write_rows(made / "rows.jsonl")
    return made


@pytest.fixture
def tune(folder: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts `guitarfish tune`; what is left of it is ended by its process group."""
    running: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*GUITARFISH, "tune", *arguments],
            cwd=folder,
            env={**os.environ, "OMP_NUM_THREADS": "1", "GUITARFISH_CACHE": str(folder / "cache")},
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


def ended(process: subprocess.Popen[str], code: int) -> tuple[str, str]:
    out, err = process.communicate(timeout=400)
    assert process.returncode == code, err[-3000:]
    assert "Traceback" not in err
    return out, err


def trials_of(store: Store, search: str) -> dict[int, list[Attempt]]:
    """Attempts of each trial that has begun."""
    names = [name for name in store.list("runs") if name.startswith(f"{search}-t")]
    return {int(name[-2:]): Ledger(store, name).attempts() for name in names}


def wait_for(what: Callable[[], Any], process: subprocess.Popen[str], seconds: float = 240) -> Any:
    """What `what` gives as soon as that is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := what():
            return found
        if process.poll() is not None:
            raise AssertionError(f"ended too early, with {process.returncode}: {process.communicate()[1][-3000:]}")
        time.sleep(0.1)
    raise AssertionError(f"did not come about in {seconds} s")


def test_the_better_learning_rate_is_chosen_and_written(
    folder: Path, ray_session: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two trials at a time. What is killed, resumed and out of budget takes minutes: see below."""
    store = open_store(str(folder / "short"))
    space = {"ranks": [2], "learning_rates": {"kind": "list", "values": [1e-5, 2e-2]}, "grace_steps": 4}
    sections = {"hardware": ONE_CORE, "training": TRAINING | {"max_steps": 8}, "tuning": space}
    run_file = write_run_file(folder, store=store.uri, **sections)
    assert guitarfish(["tune", str(run_file), "--json"]) == 0
    result = SearchResult.model_validate_json(capsys.readouterr().out)
    assert [(line.rank, line.learning_rate) for line in result.trials] == [(2, 2e-2), (2, 1e-5)]
    assert result.trials[0].outcome == "finished"
    assert result.trials[1].outcome in ("pruned", "finished")  # finished where it reached its fourth step first
    assert (result.chosen, result.best) == (0, 0)
    assert load_run(folder / "run-tuned.yaml").spec.training.learning_rate == 2e-2
    paid = sum(attempt.cost_usd for (attempt,) in trials_of(store, result.search).values())
    assert result.cost_usd == pytest.approx(paid + total_cost(Ledger(store, result.search).attempts()).usd)
    (folder / "run-tuned.yaml").unlink()


@pytest.mark.soak
def test_a_search_survives_kills_and_failures_prunes_and_chooses(
    folder: Path, tune: Callable[..., subprocess.Popen[str]]
) -> None:
    """One trial after the other. The first is killed, Ctrl-C comes amid the second; resumed, the third fails."""
    space = {
        "ranks": [2, 4],
        "learning_rates": {"kind": "list", "values": [1e-5, 2e-2, DIVERGES]},
        "trials": 4,
        "grace_steps": 4,
        "concurrent": 1,
    }
    sections = {"hardware": ONE_CORE, "training": TRAINING | {"max_steps": 40}, "tuning": space}
    run_file = write_run_file(folder, seed=2, store=str(folder / "whole"), **sections)
    store = open_store(str(folder / "whole"))
    search = _kill_and_stop(tune(str(run_file)), store)

    out, _ = ended(tune("--resume", search, "--store", store.uri, "--json"), 0)
    result = SearchResult.model_validate_json(out)
    assert [(line.rank, line.learning_rate) for line in result.trials] == [
        (2, 1e-5),
        (4, 2e-2),
        (2, DIVERGES),
        (4, 1e-5),
    ]
    assert [line.outcome for line in result.trials] == ["finished", "finished", "failed", "pruned"]
    assert "learning rate is too high" in result.trials[2].reason
    assert (result.chosen, result.best) == (1, 1)
    assert result.trials[1].score is not None
    assert result.trials[1].score.mean < result.base_score - 0.2
    _check_ledgers(store, search, result)

    walked = store.walk("runs")
    assert sum(path.endswith("/before.json") for path in walked) == 1
    assert sum(path.endswith("/data/train.jsonl") for path in walked) == 1
    assert f"runs/{result.trials[1].run_id}/receipt.json" in walked
    names = ("facts.json", "holdout.arrow", "train.arrow")
    assert [path for path in walked if "/tokens/" in path] == [f"runs/{search}/tokens/{name}" for name in names]

    for chosen in (load_run(folder / "run-tuned.yaml").spec, load_run(folder / "whole" / result.run_file).spec):
        assert (chosen.lora.rank, chosen.lora.alpha, chosen.training.learning_rate) == (4, 8, 2e-2)
        assert chosen.tuning is None
    assert load_run(folder / "run-tuned.yaml").spec.data == load_run(run_file).spec.data


def _kill_and_stop(process: subprocess.Popen[str], store: Store) -> str:
    """Kill the first trial's process and send Ctrl-C amid the second; the search's id."""
    search = wait_for(lambda: [name for name in store.list("runs") if name[-4:-2] != "-t"], process)[0]
    wait_for(lambda: store.exists(f"runs/{search}-t00/spec.json"), process)
    os.kill(wait_for(lambda: trial_process(search, 0), process), signal.SIGKILL)
    wait_for(lambda: store.exists(f"runs/{search}-t01/spec.json"), process)
    process.send_signal(signal.SIGINT)
    _, err = ended(process, 130)
    assert f"guitarfish tune --resume {search}" in err
    attempts = trials_of(store, search)
    assert [attempt.outcome for attempt in attempts[0]] == ["failed"]
    assert "its process is gone" in attempts[0][0].reason
    assert [attempt.outcome for attempt in attempts[1]] == ["interrupted"]
    assert store.list(f"runs/{search}-t01/checkpoints")
    assert 2 not in attempts
    return str(search)


def _check_ledgers(store: Store, search: str, result: SearchResult) -> None:
    attempts = trials_of(store, search)
    assert [[attempt.outcome for attempt in attempts[number]] for number in range(4)] == [
        ["failed", "finished"],
        ["interrupted", "finished"],
        ["failed"],
        ["pruned"],
    ]
    assert attempts[3][0].step == 4
    assert attempts[1][-1].seconds["training"] > 0
    assert attempts[1][-1].start.price_usd_per_hour == 3.6
    paid = sum(attempt.cost_usd for trial in attempts.values() for attempt in trial)
    base = Ledger(store, search).attempts()
    assert result.cost_usd == pytest.approx(paid + base[0].cost_usd)
    assert sum(attempt.cost_usd for attempt in base[1:]) == 0
    assert {run.run_id: run.state for run in list_runs(store)}[result.trials[1].run_id] == "finished"


@pytest.mark.soak
def test_a_spent_budget_stops_what_is_training_with_a_checkpoint(
    folder: Path, tune: Callable[..., subprocess.Popen[str]]
) -> None:
    """Two trials at a time. The base measurement alone spends the first budget; the second ends amid both trials."""
    store = open_store(str(folder / "poor"))
    space = {"ranks": [2, 4], "learning_rates": {"kind": "list", "values": [2e-2]}, "grace_steps": 1000}
    endless = {"max_steps": 100_000, "checkpoint_every_steps": 1000, "holdout_loss_rows": 4}
    run_file = write_run_file(folder, store=store.uri, hardware=ONE_CORE, tuning=space, training=endless)
    _, err = ended(tune(str(run_file), "--budget", "0.0001"), 4)
    assert "The budget of $0.0001 was spent" in err
    (search,) = store.list("runs")
    assert f"guitarfish tune --resume {search} --budget" in err
    base_usd = Ledger(store, search).attempts()[0].cost_usd
    _, err = ended(tune("--resume", search, "--store", store.uri, "--budget", str(base_usd + 0.03)), 4)
    assert "was spent before a trial finished" in err
    attempts = [attempt for (attempt,) in trials_of(store, search).values()]
    assert [(attempt.outcome, attempt.reason) for attempt in attempts] == [
        ("over_budget", "the search's budget was spent")
    ] * 2
    for number, attempt in enumerate(attempts):
        assert attempt.step > 0
        assert store.exists(f"runs/{search}-t{number:02d}/checkpoints/checkpoint-{attempt.step}/trainer_state.json")
        assert attempt.start.price_usd_per_hour == 1.8  # two trials share the machine
    assert 0.03 < sum(attempt.cost_usd for attempt in attempts) < 0.06


def trial_process(search: str, number: int) -> int | None:
    """The process that works in the folder that Ray made for a trial."""
    for process in psutil.process_iter():
        try:
            if search in process.cwd() and f"number={number}" in process.cwd():
                return process.pid
        except psutil.Error:
            continue
    return None
