"""What every worker runs: load the model, map the tokens, train with the method's trainer, save checkpoints.

Nothing here imports Ray: the context is `RayContext` (launcher.py) under Ray Train, `LocalContext` in one process.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from cluster.store.storage import Store, open_store
from runspec.run import RunSpec
from training.methods.method import TrainerParts, TrainingMethod, load_method
from training.model.adapter_files import adapter_files, start_adapter
from training.model.base_model import load_base, load_tokenizer, on_this_machine
from training.model.lora import attach_adapter, load_adapter
from training.strategies.strategy import TrainingStrategy, load_strategy
from training.strategies.weights import adapter_weights
from training.tokens.arrow import map_tokens
from training.worker.arguments import training_arguments
from training.worker.job import Event, TrainJob, WorkerContext
from training.worker.watch import trainer_callback

log = logging.getLogger(__name__)


def train_on_worker(job: TrainJob, context: WorkerContext) -> None:
    """Train the adapter of a run, until the checkpoint of the last step or of a requested stop is saved."""
    started = time.monotonic()
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # TRL reports each trainer that is built
    method, strategy = load_method(job.spec.method.kind), load_strategy(job.strategy)
    folder = Path(tempfile.mkdtemp(prefix="guitarfish-train-"))
    try:
        store = open_store(job.spec.store)
        model, tokenizer = _load_model(job, strategy, store)
        if context.rank == 0:
            _tell_tokens(job, method, context)
        trainer = _build(job, method, strategy, model, tokenizer, store, folder, context)
        context.emit(Event("model_loaded", values={"seconds": time.monotonic() - started}, phase="starting"))
        with context.latest_checkpoint() as checkpoint:
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _load_model(job: TrainJob, strategy: TrainingStrategy, store: Store) -> tuple[Any, Any]:
    """The base model with an adapter to train, and its tokenizer. Paths in the spec are absolute."""
    import torch

    spec = job.spec
    base = on_this_machine(job.base, spec.model)
    tokenizer = load_tokenizer(base, spec.model, Path())
    places, dtype = strategy.device_map(base, spec.model, job.strategy), strategy.compute_dtype(spec.model)
    sharded = job.strategy.kind == "zero3"
    model = load_base(base, spec.model, quantised=True, device_map=places, dtype=dtype, sharded=sharded)
    model.config.use_cache = False
    if spec.model.quantization.kind != "none" and spec.training.gradient_checkpointing:
        model.enable_input_require_grads()
    model = _with_adapter(model, spec, store)
    log.info("base %s on %s, dtype %s", base.label, places, dtype)
    torch.manual_seed(spec.seed)
    return model, tokenizer


def _with_adapter(model: Any, spec: RunSpec, store: Store) -> Any:
    """A new adapter, or the one to start from, whose version was pinned when the run began."""
    start = start_adapter(spec, store)
    if start is None:
        return attach_adapter(model, spec.lora, seed=spec.seed)
    with adapter_files(store, start) as folder:
        return load_adapter(model, folder, trainable=True)


def _tell_tokens(job: TrainJob, method: TrainingMethod, context: WorkerContext) -> None:
    train = job.tokens.train
    fates = ", ".join(f"{count} {fate}" for fate, count in sorted(train.fates.items()))
    text = f"training examples: {fates}; {train.tokens} tokens, {train.supervised} of them trained on"
    values: dict[str, float] = {"tokens": train.tokens, "supervised_tokens": train.supervised, **train.fates}
    context.emit(Event("note", values=values, text=text))
    for remark in method.remarks(job.spec, job.tokens.good, job.tokens.bad):
        context.emit(Event("note", text=remark))


def _build(
    job: TrainJob,
    method: TrainingMethod,
    strategy: TrainingStrategy,
    model: Any,
    tokenizer: Any,
    store: Store,
    folder: Path,
    context: WorkerContext,
) -> Any:
    import torch

    spec = job.spec
    holdout = map_tokens(store, job.tokens, "holdout") if job.tokens.holdout else None
    arguments = training_arguments(
        spec,
        folder=folder,
        holdout=holdout is not None,
        bf16=strategy.compute_dtype(spec.model) == torch.bfloat16,
        world_size=context.world_size,
    )
    before = adapter_weights(model)
    watch = trainer_callback(context, folder, first_loss=method.first_loss(spec), held_bytes=strategy.held_bytes)
    trainer = method.build_trainer(
        TrainerParts(
            model=model,
            continued=spec.lora.start_from is not None,
            tokenizer=tokenizer,
            train=map_tokens(store, job.tokens, "train"),
            holdout=holdout,
            spec=spec,
            arguments=arguments | strategy.arguments(spec, job.strategy),
            callbacks=[watch],
        )
    )
    strategy.finish(trainer, before)
    return trainer
