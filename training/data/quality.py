"""The quality filters of a run file, applied: each row is kept, or dropped with its reason."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module

from runspec.filters import QualityFilter
from training.data.example import Example
from training.data.funnel import Funnel

Judge = Callable[[Example], str]
"""Says why a row is to be dropped; the empty text keeps it."""


def judge_of(spec: QualityFilter) -> Judge:
    """The filter's function: `build` in the module of `training.data.filters` that is called as its kind."""
    judge: Judge = import_module(f"training.data.filters.{spec.kind}").build(spec)
    return judge


def keep_good(examples: list[Example], specs: Sequence[QualityFilter], funnel: Funnel) -> list[Example]:
    """The rows that pass all filters, one filter after the other."""
    for name, spec in zip(_names(specs), specs, strict=True):
        judge = judge_of(spec)
        judged = [(example, judge(example) if _is_judged(example, spec) else "") for example in examples]
        funnel.drop(name, [(example, reason) for example, reason in judged if reason])
        examples = [example for example, reason in judged if not reason]
    return examples


def _is_judged(example: Example, spec: QualityFilter) -> bool:
    """An answer that its row calls bad is there to be learnt from as such: no filter of answers drops it."""
    return example.is_good or getattr(spec, "of", "answer") == "prompt"


def _names(specs: Sequence[QualityFilter]) -> list[str]:
    """`filter length`; with a number where the kind is there twice."""
    kinds = [spec.kind for spec in specs]
    return [
        f"filter {kind}" if kinds.count(kind) == 1 else f"filter {kind} {kinds[: place + 1].count(kind)}"
        for place, kind in enumerate(kinds)
    ]
