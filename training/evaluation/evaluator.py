"""Evaluation spread over a run's workers: each answers every n-th held-out row; the parts are merged in order."""

from __future__ import annotations

import random
import traceback
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from cluster.store.storage import Store, open_store
from runspec.model import Unquantised
from runspec.run import RunSpec
from runspec.strategy import DeviceMap
from training.data.example import Example
from training.data.rows import read_examples
from training.evaluation.fewshot import pick_few_shot
from training.evaluation.general import continue_base, drift, general_prompts, merge_continuations, merge_drift
from training.evaluation.measure import measure, merge
from training.evaluation.results import After, Before, Continuations
from training.evaluation.scorers import build_scorers
from training.evaluation.sharding import shard
from training.model.adapter_files import adapter_files, start_adapter
from training.model.base_model import BaseModel, load_base, load_tokenizer, local_device, on_this_machine
from training.model.canary import record_canary
from training.model.lora import load_adapter
from training.strategies.placement import Placement
from training.tokens.chat import render_prompt
from training.tokens.stop_tokens import stop_token_ids
from training.worker.failures import stopped, worker_failed
from training.worker.job import Event
from training.worker.output import logs_folder, redirect_output

CANARY_PROMPTS = 4
"""Held-out prompts tried for the canary."""
Part = TypeVar("Part")


@dataclass(frozen=True)
class Share:
    """One worker's share of an evaluation.

    Attributes:
        base: the base model as the driver found it.
        examples: its held-out rows.
        shots: rows for the few-shot prompts; if empty, no few-shot baseline is measured.
        prompts: general prompts for the base model to continue.
        adapter: the adapter's folder in the store; None for the base model alone.
        continuations: to measure drift on.
        canary: whether to record one when the tuned model is measured.
    """

    run_id: str
    spec: RunSpec
    base: BaseModel
    rank: int
    threads: int
    examples: list[Example]
    shots: list[Example]
    prompts: list[str]
    adapter: str | None = None
    continuations: Continuations | None = None
    canary: bool = False


AnyShare = TypeVar("AnyShare", bound=Share)


@dataclass(frozen=True)
class Evaluator:
    """Measures models on the hold-out of a run with the run's workers."""

    run_id: str
    spec: RunSpec
    base: BaseModel
    store: Store
    placement: Placement
    board: Any
    stop_requested: Callable[[], bool]
    data_run: str = ""
    """The run whose rows are used, if not its own: the trials of a search share them."""

    def before(self) -> Before:
        """Measure the untuned model, or the adapter of `lora.start_from`.

        The untuned model is also measured with examples in its prompt, and continues general prompts.
        """
        good = [row for row in read_examples(self.store, self.data_run or self.run_id, "train") if row.is_good]
        shots = pick_few_shot(good, self.spec.evaluation.few_shot, seed=self.spec.seed)
        parts = self.spread(self._shares(start_adapter(self.spec, self.store), shots), _before_share)
        return Before(
            base=merge([part.base for part in parts]),
            few_shot=_merged([part.few_shot for part in parts], merge),
            continuations=_merged([part.continuations for part in parts], merge_continuations),
        )

    def after(self, adapter: str, before: Before | None) -> After:
        """Measure the tuned model, whose adapter is in this folder of the store, and its drift if `before` is given."""
        parts = self.spread(self._shares(adapter, [], before.continuations if before else None), _after_share)
        return After(
            tuned=merge([part.tuned for part in parts]),
            drift=_merged([part.drift for part in parts], lambda drifts: merge_drift(drifts, seed=self.spec.seed)),
            canary=parts[0].canary,
        )

    def _shares(
        self, adapter: str | None, shots: list[Example], continuations: Continuations | None = None
    ) -> list[Share]:
        spec, workers, rows = self.spec, self.placement.workers, self._rows
        general = general_prompts(spec.evaluation.general, Path()) if spec.evaluation.general else []
        return [
            Share(
                self.run_id,
                spec,
                self.base,
                rank,
                self.placement.cpus_per_worker,
                shard(rows, rank, workers),
                shots,
                shard(general, rank, workers),
                adapter,
                _part(continuations, rank, workers),
                canary=rank == 0,
            )
            for rank in range(workers)
        ]

    @cached_property
    def _rows(self) -> list[Example]:
        """Drawn from the whole hold-out: its file may be sorted by task."""
        rows = [row for row in read_examples(self.store, self.data_run or self.run_id, "holdout") if row.is_good]
        most = self.spec.evaluation.rows
        if len(rows) <= most:
            return rows
        return [rows[place] for place in sorted(random.Random(self.spec.seed).sample(range(len(rows)), most))]

    def spread(
        self, shares: Sequence[AnyShare], work: Callable[[AnyShare, Callable[[int, int], None]], Part]
    ) -> list[Part]:
        """Run `work` on all shares at once."""
        import ray

        resources = self.placement
        task = ray.remote(num_cpus=resources.cpus_per_worker, num_gpus=resources.gpus_per_worker, max_retries=2)(
            _on_worker
        )
        waiting = [task.remote(work, share, self.board, len(shares)) for share in shares]
        try:
            while len(ray.wait(waiting, num_returns=len(waiting), timeout=0.5)[0]) < len(waiting):
                if self.stop_requested():
                    raise stopped(self.run_id)
            parts: list[Part] = ray.get(waiting)
        except ray.exceptions.RayError as error:
            log_file = logs_folder(self.run_id) / "evaluation-0.log"
            raise worker_failed(error, "An evaluation worker", log_file, self.run_id) from error
        finally:
            # Only those still running: cancelling a finished task crashes the driver (ray 2.60.0).
            for one in ray.wait(waiting, num_returns=len(waiting), timeout=0)[1]:
                ray.cancel(one, force=True)
        return parts


def _merged(parts: list[Part | None], together: Callable[[list[Part]], Part]) -> Part | None:
    there = [part for part in parts if part is not None]
    return together(there) if there else None


def _part(continuations: Continuations | None, rank: int, workers: int) -> Continuations | None:
    if continuations is None:
        return None
    return Continuations(
        prompts=shard(continuations.prompts, rank, workers),
        prompt_token_ids=shard(continuations.prompt_token_ids, rank, workers),
        answer_token_ids=shard(continuations.answer_token_ids, rank, workers),
    )


def _on_worker(
    work: Callable[[AnyShare, Callable[[int, int], None]], Part], share: AnyShare, board: Any, of: int
) -> Part:
    """The Ray task. Rank 0 reports progress for all."""
    import torch

    redirect_output(logs_folder(share.run_id) / f"evaluation-{share.rank}.log")
    if not torch.cuda.is_available():
        torch.set_num_threads(share.threads)

    def progress(done: int, rows: int) -> None:
        if share.rank == 0:
            board.post.remote(Event("progress", done * of, rows * of, phase="evaluating"))

    try:
        return work(share, progress)
    except Exception:
        traceback.print_exc()  # into the log, whose end the driver shows
        raise


def load_model(share: Share) -> tuple[Any, Any]:
    """A share's model, with its adapter, and the tokenizer."""
    spec, base = share.spec, on_this_machine(share.base, share.spec.model)
    tokenizer = load_tokenizer(base, spec.model, Path())
    model = load_base(base, spec.model, quantised=spec.evaluation.quantised, device_map=_device_map(base, share))
    if share.adapter:
        with adapter_files(open_store(spec.store), share.adapter) as folder:
            model = load_adapter(model, folder)
    return model, tokenizer


def _device_map(base: BaseModel, share: Share) -> dict[str, str]:
    """The worker's device; if it owns several GPUs, the layers are spread over them."""
    import torch

    if torch.cuda.device_count() < 2:
        return {"": local_device()}
    from training.strategies import device_map

    held = share.spec.model
    if not share.spec.evaluation.quantised:
        held = held.model_copy(update={"quantization": Unquantised()})
    strategy = share.spec.strategy if isinstance(share.spec.strategy, DeviceMap) else DeviceMap()
    return device_map.device_map(base, held, strategy)


def _before_share(share: Share, progress: Callable[[int, int], None]) -> Before:
    spec = share.spec.evaluation
    model, tokenizer = load_model(share)
    scorers = build_scorers(spec.scorers, Path())
    rows = len(share.examples)
    rounds = 2 if share.shots else 1
    base = measure(
        model, tokenizer, share.examples, spec, scorers, on_progress=lambda done: progress(done, rows * rounds)
    )
    few_shot = None
    with model.disable_adapter() if share.adapter else nullcontext():
        if share.shots:
            few_shot = measure(
                model,
                tokenizer,
                share.examples,
                spec,
                scorers,
                few_shot_examples=share.shots,
                on_progress=lambda done: progress(rows + done, rows * rounds),
            )
        continuations = continue_base(model, tokenizer, share.prompts, spec.general.tokens) if spec.general else None
    return Before(base=base, few_shot=few_shot, continuations=continuations)


def _after_share(share: Share, progress: Callable[[int, int], None]) -> After:
    spec = share.spec.evaluation
    model, tokenizer = load_model(share)
    scorers = build_scorers(spec.scorers, Path())
    rows = len(share.examples)
    tuned = measure(model, tokenizer, share.examples, spec, scorers, on_progress=lambda done: progress(done, rows))
    moved = drift(model, tokenizer, share.continuations, seed=share.spec.seed) if share.continuations else None
    canary = None
    if share.canary:
        chats = [example for example in share.examples if example.text is None][:CANARY_PROMPTS]
        prompts = [render_prompt(example.prompt, tokenizer, example.tools) for example in chats]
        canary = record_canary(model, prompts, stop_token_ids(tokenizer))
    return After(tuned=tuned, drift=moved, canary=canary)
