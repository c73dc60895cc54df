"""Training through Guitarfish compared with a bare TRL script: start-up, step time, memory, and the loss reached.

    python examples/smart-home/prepare.py
    python benchmarks/training_overhead.py examples/smart-home/run.yaml --steps 30 --repeat 3

Each way trains on the same rows with the same settings, in its own processes, one after the other and `--repeat` times
in turn, so that a machine that slows down affects all of them. Ours is measured as one process without Ray, and on Ray
Train with one worker and with two; `guitarfish train` adds planning and two evaluations, which a bare script lacks.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from cluster.machine.hardware import detect
from cluster.store.storage import open_store
from runspec.load import load_run, resolved
from runspec.model import Nf4
from runspec.run import RunSpec
from runspec.strategy import Ddp
from training.curation.curated import store_curated
from training.run.preparation import prepare_data
from training.run.run_folder import TrainingFolder
from training.worker.job import Event, LocalContext, TrainJob

RUN = "measured"
BARE, ALONE = "bare TRL script", "Guitarfish's worker"
ON_RAY = {"Ray Train, 1 worker": 1, "Ray Train, 2 workers": 2}
"""The ways that use Ray, and their number of workers."""
SAMPLE_SECONDS = 2.0


@dataclass
class Result:
    """One way, over all its repetitions.

    Attributes:
        rows_a_step: rows of one optimiser step, all workers together.
        start_up_seconds: from the process's start to the first step, of each repetition.
        step_seconds: of all steps except the first of each repetition.
        wall_seconds: from the process's start to its end, of each repetition.
        worker_bytes: the most that one training process held.
        all_bytes: the most that all its processes held together (proportional set size).
        holdout_loss: at the end, in nats per token.
    """

    way: str
    rows_a_step: int
    start_up_seconds: list[float] = field(default_factory=list)
    step_seconds: list[float] = field(default_factory=list)
    wall_seconds: list[float] = field(default_factory=list)
    worker_bytes: int = 0
    all_bytes: int = 0
    holdout_loss: list[float] = field(default_factory=list)

    def add(self, found: dict[str, Any], wall_seconds: float, all_bytes: int) -> None:
        self.start_up_seconds.append(found["start_up_seconds"])
        self.step_seconds += found["step_seconds"][1:]
        self.wall_seconds.append(wall_seconds)
        self.worker_bytes = max(self.worker_bytes, found["worker_bytes"])
        self.all_bytes = max(self.all_bytes, all_bytes)
        self.holdout_loss.append(found["holdout_loss"])


# --- the parent: one process for each way


def run_file(path: Path, steps: int, store: Path) -> RunSpec:
    """The run file with that many steps, one checkpoint at the end, and its own store."""
    overrides = [
        f"training.max_steps={steps}",
        f"training.checkpoint_every_steps={steps}",
        "hardware.workers=1",
        "hardware.accelerator=cpu",
        f"store={store}",
    ]
    spec = resolved(load_run(path, overrides))
    if not isinstance(spec.model.quantization, Nf4) or spec.method.kind != "sft":
        raise SystemExit("The bare script is QLoRA with NF4, method sft. Use a run file with these.")
    store_curated(TrainingFolder(open_store(spec.store), RUN), prepare_data(spec, path.parent))
    return spec


def settings_of(spec: RunSpec, folder: Path) -> dict[str, Any]:
    """The bare script's settings. Its hold-out has our labels: TRL's include the line break after an answer, which is
    easy to predict and makes the loss look lower."""
    import torch

    from training.data.rows import read_examples
    from training.methods.sft import tokenize_rows
    from training.model.base_model import load_tokenizer, materialise
    from training.strategies.strategy import load_strategy
    from training.worker.arguments import training_arguments

    store = open_store(spec.store)
    dtype = load_strategy(Ddp()).compute_dtype(spec.model)
    shared = training_arguments(spec, folder=folder, holdout=True, bf16=dtype == torch.bfloat16, world_size=1)
    names = (
        "learning_rate per_device_train_batch_size per_device_eval_batch_size gradient_accumulation_steps max_steps "
        "lr_scheduler_type warmup_steps weight_decay max_grad_norm gradient_checkpointing use_cpu seed data_seed "
        "disable_tqdm logging_steps bf16"
    )
    base = materialise(spec.model, Path())
    tokenizer = load_tokenizer(base, spec.model, Path())
    held_out = tokenize_rows(read_examples(store, RUN, "holdout")[: spec.training.holdout_loss_rows], tokenizer, spec)
    return {
        "model": str(base.folder),
        "dtype": str(dtype).removeprefix("torch."),
        "folder": str(folder / "bare"),
        "arguments": {name: shared[name] for name in names.split()} | {"max_length": spec.data.max_length},
        "lora": {
            "r": spec.lora.rank,
            "lora_alpha": spec.lora.alpha,
            "lora_dropout": spec.lora.dropout,
            "target_modules": spec.lora.targets,
        },
        "train": [{"prompt": one.prompt, "completion": one.completion} for one in read_examples(store, RUN, "train")],
        "holdout": held_out.dataset.to_list(),
    }


def measured(command: list[str], result: Path) -> tuple[dict[str, Any], float, int]:
    """Run one way to its end: its measurements, its seconds, and the peak memory of all its processes."""
    began, most, done = time.monotonic(), [0], threading.Event()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    def sample() -> None:
        while not done.wait(SAMPLE_SECONDS):
            most[0] = max(most[0], sum(_bytes(one) for one in _family(child.pid)))

    sampler = threading.Thread(target=sample, daemon=True)
    sampler.start()
    _, errors = child.communicate()
    done.set()
    sampler.join()
    if child.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{errors[-3000:]}")
    return json.loads(result.read_text()), time.monotonic() - began, most[0]


def _family(pid: int) -> list[psutil.Process]:
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _bytes(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except psutil.Error:
        return 0


def show(results: list[Result]) -> None:
    heads = ("start-up s", "s per step", "rows/s", "loss", "GiB/worker", "GiB in all")
    print(f"{'way':22}", *(f"{head:>12}" for head in heads))
    for one in results:
        step = statistics.median(one.step_seconds)
        figures = (
            f"{statistics.median(one.start_up_seconds):.1f}",
            f"{step:.3f}",
            f"{one.rows_a_step / step:.2f}",
            f"{statistics.median(one.holdout_loss):.4f}",
            f"{one.worker_bytes / 2**30:.2f}",
            f"{one.all_bytes / 2**30:.2f}",
        )
        print(f"{one.way:22}", *(f"{figure:>12}" for figure in figures))


# --- the children


def job_of(spec: RunSpec) -> TrainJob:
    from training.model.base_model import materialise
    from training.tokens.arrow import write_tokens

    base = materialise(spec.model, Path())
    return TrainJob(RUN, spec, Ddp(), base, write_tokens(open_store(spec.store), RUN, spec, base))


def alone(spec: RunSpec, folder: Path) -> dict[str, Any]:
    """The worker's function in this process, without Ray."""
    from training.worker.worker import train_on_worker

    times: list[float] = []

    class Timed(LocalContext):
        def emit(self, event: Event) -> None:
            if event.kind == "begun":
                times.append(since_start())
            super().emit(event)

    context = Timed(folder / "alone")
    train_on_worker(job_of(spec), context)
    return told(context.events, times[0])


def with_ray(spec: RunSpec, _folder: Path, workers: int) -> dict[str, Any]:
    """The same on Ray Train, as `guitarfish train` starts it."""
    import ray

    from cluster.machine.session import connect
    from training.run.board import start_board
    from training.strategies.strategy import load_strategy
    from training.worker.launcher import launch

    hardware = {"workers": workers, "cpus_per_worker": max(1, detect().cores // workers)}
    spec = spec.model_copy(update={"hardware": spec.hardware.model_copy(update=hardware)})
    events: list[Event] = []
    begun: list[float] = []
    done = threading.Event()
    with connect() as session:
        board = start_board()

        def follow() -> None:
            while not done.wait(0.2):
                for event in ray.get(board.fetch.remote()):
                    if event.kind == "begun":
                        begun.append(since_start())
                    events.append(event)

        follower = threading.Thread(target=follow)
        follower.start()
        placement = load_strategy(Ddp()).place(spec.hardware, session)
        launch(job_of(spec), placement, open_store(spec.store), board)
        done.set()
        follower.join()
        events += ray.get(board.fetch.remote())
    return told(events, begun[0])


def told(events: list[Event], start_up_seconds: float) -> dict[str, Any]:
    steps = [event.values for event in events if event.kind == "step"]
    (loss,) = [event.values["holdout_loss"] for event in events if event.kind == "checkpoint"]
    return {
        "start_up_seconds": start_up_seconds,
        "step_seconds": [one["seconds"] for one in steps],
        "holdout_loss": loss,
        "worker_bytes": max(int(one["memory_bytes"]) for one in steps),
    }


def since_start() -> float:
    return time.time() - psutil.Process().create_time()


CHILDREN: dict[str, Callable[[RunSpec, Path], dict[str, Any]]] = {
    ALONE: alone,
    **{way: partial(with_ray, workers=workers) for way, workers in ON_RAY.items()},
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare training through Guitarfish with a bare TRL script, on CPU.")
    parser.add_argument("run", type=Path, help="run file: NF4, method sft")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--out", type=Path, help="JSON file to write")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        way, folder = arguments.child[0], Path(arguments.child[1])
        spec = RunSpec.model_validate_json((folder / "spec.json").read_text())
        (folder / "result.json").write_text(json.dumps(CHILDREN[way](spec, folder)))
        return
    with tempfile.TemporaryDirectory(prefix="guitarfish-benchmark-") as scratch:
        results = in_turn(arguments.run, arguments.steps, arguments.repeat, Path(scratch))
    show(results)
    if arguments.out:
        hardware = detect()
        found = {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "steps": arguments.steps,
            "machine": hardware.model_dump(mode="json"),
            "results": [asdict(one) for one in results],
        }
        arguments.out.write_text(json.dumps(found, indent=1) + "\n")


def in_turn(run: Path, steps: int, repeat: int, scratch: Path) -> list[Result]:
    """Each way once, then each again; every repetition with its own store."""
    training = load_run(run).spec.training
    rows = training.batch_size_per_device * training.gradient_accumulation
    results = [Result(way, rows * ON_RAY.get(way, 1)) for way in (BARE, *CHILDREN)]
    for turn in range(repeat):
        for place, one in enumerate(results):
            folder = scratch / f"{turn}-{place}"
            spec = run_file(run, steps, folder / "store")
            (folder / "spec.json").write_text(spec.model_dump_json())
            command = [sys.executable, __file__, str(run), "--child", one.way, str(folder)]
            if one.way == BARE:
                (folder / "settings.json").write_text(json.dumps(settings_of(spec, folder)))
                command = [sys.executable, str(Path(__file__).with_name("bare_trl.py"))]
                command += [str(folder / "settings.json"), str(folder / "result.json")]
            one.add(*measured(command, folder / "result.json"))
            print(f"turn {turn + 1} of {repeat}: {one.way}, {one.wall_seconds[-1]:.0f} s", file=sys.stderr)
    return results


if __name__ == "__main__":
    main()
