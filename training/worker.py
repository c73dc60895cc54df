"""What every worker runs: load data and model, train with the method's trainer, hand over checkpoints.

`train_on_worker` knows nothing of Ray: the context it is given does. Under Ray Train that is training/launcher.py's
`RayContext`; `LocalContext` serves one process without Ray.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.storage import open_store
from runspec.errors import ModelError
from runspec.run import RunSpec
from training.data.example import Example
from training.job import Event, TrainJob, WorkerContext
from training.lora import attach_adapter
from training.methods import sft
from training.model import (
    attention_implementation,
    compute_dtype,
    load_base,
    load_tokenizer,
    local_device,
    materialise,
)
from training.rows import read_examples
from training.watch import trainer_callback

log = logging.getLogger(__name__)


def train_on_worker(job: TrainJob, context: WorkerContext) -> None:
    """Train the adapter of a run; ends after the last step's checkpoint was kept, or after a requested stop's.

    Args:
        job: what to train.
        context: rank, world size, where events and checkpoints go.

    Raises:
        ModelError, DataError: as the steps before the first one raise them.
    """
    started = time.monotonic()
    spec = job.spec
    folder = Path(tempfile.mkdtemp(prefix="guitarfish-train-"))
    try:
        data = _load_data(job)
        model, tokenizer = _load_model(spec)
        tokenized = _tokenize(data, tokenizer, spec, context)
        trainer = _build(spec, model, tokenizer, tokenized, folder, context)
        context.emit(Event("model_loaded", values={"seconds": time.monotonic() - started}, phase="starting"))
        with context.latest_checkpoint() as checkpoint:
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True)
class _Data:
    train: list[Example]
    holdout: list[Example]


@dataclass(frozen=True)
class _Tokenized:
    train: sft.TokenizedRows
    holdout: sft.TokenizedRows | None


def _load_data(job: TrainJob) -> _Data:
    store = open_store(job.spec.store)
    train = read_examples(store, job.run_id, "train")
    holdout = read_examples(store, job.run_id, "holdout")
    return _Data(train, holdout[: job.spec.training.holdout_loss_rows])


def _load_model(spec: RunSpec) -> tuple[Any, Any]:
    """The base model with an untrained adapter, and its tokenizer. Paths in `spec` are absolute."""
    import torch

    base = materialise(spec.model, Path())
    tokenizer = load_tokenizer(base, spec.model, Path())
    model = load_base(base, spec.model, quantised=True, device=local_device())
    model.config.use_cache = False
    if spec.model.quantization.kind != "none" and spec.training.gradient_checkpointing:
        model.enable_input_require_grads()
    model = attach_adapter(model, spec.lora, seed=spec.seed)
    log.info("base %s, device %s, dtype %s", base.label, local_device(), compute_dtype(spec.model))
    torch.manual_seed(spec.seed)
    return model, tokenizer


def _tokenize(data: _Data, tokenizer: Any, spec: RunSpec, context: WorkerContext) -> _Tokenized:
    train = sft.tokenize_rows(data.train, tokenizer, spec)
    holdout = sft.tokenize_rows(data.holdout, tokenizer, spec) if data.holdout else None
    if context.rank == 0:
        fates = ", ".join(f"{count} {fate}" for fate, count in sorted(train.fates.items()))
        context.emit(
            Event(
                "note",
                values={"tokens": train.tokens, "supervised_tokens": train.supervised, **train.fates},
                text=f"training examples: {fates}; {train.tokens} tokens, {train.supervised} of them trained on",
            )
        )
    return _Tokenized(train, holdout)


def _build(spec: RunSpec, model: Any, tokenizer: Any, rows: _Tokenized, folder: Path, context: WorkerContext) -> Any:
    import torch

    packing = sft.decide_packing(spec, attention_implementation(spec.model))
    if context.rank == 0:
        context.emit(Event("note", text=f"packing {'on' if packing.on else 'off'}: {packing.why}"))
    trainer = sft.build_trainer(
        model,
        tokenizer,
        rows.train.dataset,
        rows.holdout.dataset if rows.holdout else None,
        spec,
        folder=folder,
        packing=packing.on,
        bf16=compute_dtype(spec.model) == torch.bfloat16,
        callbacks=[trainer_callback(context, folder)],
    )
    _keep_adapter_in_float32(trainer.model)
    if not trainer.model_accepts_loss_kwargs:
        raise ModelError(
            f"{type(model).__name__} does not take the number of tokens in the whole batch, so its loss would depend "
            "on training.gradient_accumulation.",
            where="model.source",
            fix="Use an architecture whose forward takes num_items_in_batch, or gradient_accumulation: 1.",
        )
    return trainer


def _keep_adapter_in_float32(model: Any) -> None:
    """TRL casts the adapter of a quantised model to bfloat16, whose 8 bits lose most of an AdamW update of 1e-4."""
    import torch

    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(torch.float32)
