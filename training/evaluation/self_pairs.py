"""Preference pairs from a model's own answers: several to each prompt are scored, and a right one goes against a wrong
one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from runspec.errors import DataError
from training.data.example import Example
from training.evaluation.evaluator import Evaluator, Share, load_model
from training.evaluation.generate import Sampling, answer_ids, as_text
from training.evaluation.scorers import build_scorers, score_answers
from training.evaluation.sharding import interleave, shard
from training.run.results import Sampled
from training.tokens.chat import render_prompt
from training.tokens.stop_tokens import stop_token_ids

RIGHT = 1.0
"""An answer with this score is right: every built-in metric of an answer is between 0 and 1."""


@dataclass(frozen=True)
class Drawing:
    """How answers are drawn and judged."""

    samples: int
    """Answers to each prompt."""
    temperature: float
    metric: str
    """Decides which answers are right."""


@dataclass(frozen=True)
class SampleShare(Share):
    drawing: Drawing = Drawing(1, 1.0, "")


@dataclass(frozen=True)
class Pair:
    example: Example
    chosen: str
    rejected: str


def sample(evaluator: Evaluator, examples: list[Example], adapter: str | None, drawing: Drawing) -> Sampled:
    """Draw answers on all workers, from the adapter in this folder of the store, or from the base model."""
    placement = evaluator.placement
    shares = [
        SampleShare(
            evaluator.run_id,
            evaluator.spec,
            evaluator.base,
            rank,
            threads=placement.cpus_per_worker,
            examples=shard(examples, rank, placement.workers),
            shots=[],
            prompts=[],
            adapter=adapter,
            drawing=drawing,
        )
        for rank in range(placement.workers)
    ]
    parts = evaluator.spread(shares, _sample_share)
    return Sampled(
        answers=interleave([part.answers for part in parts]), values=interleave([part.values for part in parts])
    )


def _sample_share(share: SampleShare, progress: Callable[[int, int], None]) -> Sampled:
    spec, drawing = share.spec.evaluation, share.drawing
    model, tokenizer = load_model(share)
    prompts = [render_prompt(example.prompt, tokenizer, example.tools) for example in share.examples]
    stop_ids = stop_token_ids(tokenizer)
    whole = len(prompts) * drawing.samples
    ids = answer_ids(
        model,
        tokenizer,
        [prompt for prompt in prompts for _ in range(drawing.samples)],
        max_new_tokens=spec.max_new_tokens,
        batch_size=spec.batch_size,
        stop_ids=stop_ids,
        on_progress=lambda done: progress(done, whole),
        sampling=Sampling(drawing.temperature, share.spec.seed + share.rank),
    )
    texts = [as_text(row, tokenizer, stop_ids) for row in ids]
    repeated = [example for example in share.examples for _ in range(drawing.samples)]
    scorers = build_scorers(spec.scorers, Path())
    values = score_answers(scorers, repeated, [list(example.prompt) for example in repeated], texts)[drawing.metric]
    starts = range(0, whole, drawing.samples)
    return Sampled(
        answers=[texts[start : start + drawing.samples] for start in starts],
        values=[values[start : start + drawing.samples] for start in starts],
    )


def pick_pairs(
    examples: Sequence[Example], sampled: Sampled, *, or_reference: bool = False
) -> tuple[list[Pair], Counter[str]]:
    """For each prompt, the right answer that was drawn most often and the wrong one that was. Pure.

    Args:
        or_reference: if no drawn answer is right, take the data's own. The model would not have said it, so training
            on such pairs moves it further.

    Returns:
        The pairs, and the number of prompts by outcome.

    Raises:
        DataError: no prompt has both.
    """
    pairs: list[Pair] = []
    fates: Counter[str] = Counter()
    for example, answers, values in zip(examples, sampled.answers, sampled.values, strict=True):
        right = [answer for answer, value in zip(answers, values, strict=True) if value >= RIGHT]
        wrong = Counter(answer for answer, value in zip(answers, values, strict=True) if value < RIGHT and answer)
        if not wrong:
            fates["all right"] += 1
            continue
        if not right and not or_reference:
            fates["none right"] += 1
            continue
        fates["right against wrong" if right else "none right: the data's answer taken"] += 1
        chosen = Counter(right).most_common(1)[0][0] if right else example.reference
        pairs.append(Pair(example, chosen, wrong.most_common(1)[0][0]))
    if not pairs:
        raise DataError(
            f"No prompt of {len(examples)} has both a right and a wrong answer: {fates['all right']} were answered "
            f"right in every draw, {fates['none right']} in none.",
            where="guitarfish pairs",
            fix="Draw more with --samples, --temperature or --rows, or use the data's answers with --or-reference.",
        )
    return pairs, fates
