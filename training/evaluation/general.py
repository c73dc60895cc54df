"""General ability: how far the tuned model moved on prompts that have nothing to do with the task.

The base model's own greedy continuations are what it would have said; KL(base || tuned) over the whole vocabulary at
each of their tokens is how differently the tuned model would have gone on. Forgetting while fine-tuning was found to
follow this quantity: I. Shenfeld, J. Pari, P. Agrawal, "RL's Razor" (2025), https://arxiv.org/abs/2509.04259.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from importlib import resources
from itertools import starmap
from pathlib import Path
from typing import Any

import torch

from runspec.data import DataSource
from runspec.errors import DataError, SpecError
from runspec.evaluation import GeneralSpec
from training.data.read import read_rows
from training.evaluation.batches import chunks, evaluating, pad_token_id, run_prefix, tail_logits, vocabulary_size
from training.evaluation.generate import answer_ids
from training.evaluation.results import Continuations
from training.evaluation.scores import Drift
from training.evaluation.sharding import interleave
from training.evaluation.statistics import bootstrap
from training.tokens.chat import render_prompt
from training.tokens.stop_tokens import stop_token_ids

BY_PROMPT = ("kl_by_prompt", "base_nll_by_prompt", "tuned_nll_by_prompt", "tokens_by_prompt")
CONTINUATION_ROWS = 16
"""Prompts that are continued, or compared, together."""
CONVERSATIONS = ("messages", "conversations", "prompt")
TEXTS = ("prompt", "instruction", "text")


def general_prompts(spec: GeneralSpec, folder: Path) -> list[str]:
    """The first `spec.prompts` prompts: the built-in ones, or those of the run file's own source.

    Raises:
        SpecError: there are fewer prompts than asked for.
        DataError: the source cannot be read, or a row has no prompt.
    """
    if spec.source is None:
        prompts, kind = built_in_prompts(), "built-in prompts"
    else:
        prompts, kind = _own_prompts(spec.source, spec.prompts, folder), "prompts in evaluation.general.source"
    if len(prompts) < spec.prompts:
        raise SpecError(
            f"evaluation.general.prompts is {spec.prompts}, but there are only {len(prompts)} {kind}.",
            where="evaluation.general.prompts",
            fix=f"Set it to {len(prompts)} or less, or name a source with more.",
        )
    return prompts[: spec.prompts]


def built_in_prompts() -> list[str]:
    """The kinds take turns, so the first few are already a fair mixture."""
    text = resources.files("training.evaluation").joinpath("general_prompts.txt").read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def _own_prompts(source: DataSource, most: int, folder: Path) -> list[str]:
    found: list[str] = []
    for row in read_rows(source, folder, "evaluation.general.source"):
        prompt = first_user_text(row.values or {})
        if prompt is None:
            raise DataError(
                row.problem or f"A row with the columns {', '.join(row.values or {})} has no prompt.",
                where=f"evaluation.general.source: {row.origin}",
                fix=f"Give each row one of {', '.join(dict.fromkeys((*CONVERSATIONS, *TEXTS)))}.",
            )
        found.append(prompt)
        if len(found) == most:
            break
    return found


def first_user_text(values: dict[str, Any]) -> str | None:
    """What the user says first in a row of any layout: a conversation, or a column of plain text."""
    for name in CONVERSATIONS:
        turns = values.get(name)
        for turn in turns if isinstance(turns, list) else []:
            role, said = turn.get("role", turn.get("from")), turn.get("content", turn.get("value"))
            if role in ("user", "human") and isinstance(said, str) and said.strip():
                return said
    texts = (values.get(name) for name in TEXTS)
    return next((text for text in texts if isinstance(text, str) and text.strip()), None)


def continue_base(model: Any, tokenizer: Any, prompts: Sequence[str], tokens: int) -> Continuations:
    """Let the base model answer each prompt greedily, with up to `tokens` tokens; a PEFT model's adapter is off."""
    ids = [render_prompt([{"role": "user", "content": prompt}], tokenizer, None) for prompt in prompts]
    with model.disable_adapter() if hasattr(model, "disable_adapter") else nullcontext():
        answers = answer_ids(
            model,
            tokenizer,
            ids,
            max_new_tokens=tokens,
            batch_size=CONTINUATION_ROWS,
            stop_ids=stop_token_ids(tokenizer),
        )
    return Continuations(prompts=list(prompts), prompt_token_ids=[list(row) for row in ids], answer_token_ids=answers)


def merge_continuations(parts: Sequence[Continuations]) -> Continuations:
    return Continuations(
        prompts=interleave([part.prompts for part in parts]),
        prompt_token_ids=interleave([part.prompt_token_ids for part in parts]),
        answer_token_ids=interleave([part.answer_token_ids for part in parts]),
    )


def drift(model: Any, tokenizer: Any, continuations: Continuations, *, seed: int = 0) -> Drift:
    """Compare a PEFT model with and without its adapter on the base model's continuations, which may be none.

    Args:
        seed: of the bootstrap over prompts.
    """
    rows = [
        prompt + said
        for prompt, said in zip(continuations.prompt_token_ids, continuations.answer_token_ids, strict=True)
    ]
    tails = [len(said) for said in continuations.answer_token_ids]
    order = sorted(range(len(rows)), key=lambda row: len(rows[row]))
    sums: dict[int, _Sums] = {}
    if not rows:
        return _drift([], seed)
    with evaluating(model):
        room = min(len(row) - 1 - tail for row, tail in zip(rows, tails, strict=True))
        tuned_prefix = run_prefix(model, rows, room)
        with model.disable_adapter():
            base_prefix = run_prefix(model, rows, room)
        pad = pad_token_id(tokenizer)
        for chunk in chunks([tails[row] for row in order], vocabulary_size(model), CONTINUATION_ROWS):
            places = [order[i] for i in chunk]
            texts, tail = [rows[place] for place in places], max(tails[place] for place in places)
            tuned_BTV = tail_logits(model, texts, tail, tuned_prefix, pad)
            with model.disable_adapter():
                base_BTV = tail_logits(model, texts, tail, base_prefix, pad)
            for row, place in enumerate(places):
                said = continuations.answer_token_ids[place]
                sums[place] = _compare(base_BTV[row, -len(said) :], tuned_BTV[row, -len(said) :], said)
    return _drift([sums[place] for place in range(len(rows))], seed)


def merge_drift(parts: Sequence[Drift], *, seed: int = 0) -> Drift:
    columns = [list(starmap(_Sums, zip(*(getattr(part, name) for name in BY_PROMPT), strict=True))) for part in parts]
    return _drift(interleave(columns), seed)


@dataclass(frozen=True)
class _Sums:
    """Sums over the tokens of one continuation, in nats."""

    kl: float
    base_nll: float
    tuned_nll: float
    tokens: int


def _compare(base_TV: torch.Tensor, tuned_TV: torch.Tensor, said: Sequence[int]) -> _Sums:
    base, tuned = torch.log_softmax(base_TV, dim=-1), torch.log_softmax(tuned_TV, dim=-1)
    ids = torch.tensor(said, device=base.device)[:, None]
    return _Sums(
        kl=float((base.exp() * (base - tuned)).sum(-1).double().sum()),
        base_nll=-float(base.gather(1, ids).double().sum()),
        tuned_nll=-float(tuned.gather(1, ids).double().sum()),
        tokens=len(said),
    )


def _drift(sums: Sequence[_Sums], seed: int) -> Drift:
    tokens = [one.tokens for one in sums]
    if not sums:  # the part of a worker without prompts
        return Drift.model_validate(dict.fromkeys(Drift.model_fields, 0) | {name: [] for name in BY_PROMPT})
    kl = bootstrap([one.kl for one in sums], [float(count) for count in tokens], seed=seed)
    base_loss = sum(one.base_nll for one in sums) / sum(tokens)
    tuned_loss = sum(one.tuned_nll for one in sums) / sum(tokens)
    return Drift(
        mean_kl=kl.mean,
        kl_low=kl.low,
        kl_high=kl.high,
        base_loss=base_loss,
        tuned_loss=tuned_loss,
        loss_rise=tuned_loss - base_loss,
        n_prompts=len(sums),
        n_tokens=sum(tokens),
        kl_by_prompt=[one.kl for one in sums],
        base_nll_by_prompt=[one.base_nll for one in sums],
        tuned_nll_by_prompt=[one.tuned_nll for one in sums],
        tokens_by_prompt=tokens,
    )
