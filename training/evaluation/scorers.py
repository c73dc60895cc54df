"""What an answer is worth: the run file's scorers as functions of prompt, answer and reference."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import jsonschema
from jsonschema.validators import validator_for
from referencing import Registry
from referencing.exceptions import Unresolvable

from runspec.errors import DataError, SpecError
from runspec.evaluation import (
    Contains,
    CustomScorer,
    ExactMatch,
    HoldoutLoss,
    JsonMatch,
    LabelAccuracy,
    RegexMatch,
    Scorer,
)
from runspec.paths import resolve_path
from training.data.example import Example
from training.evaluation.custom import CustomError, load_scorer


class AnswerScorer(Protocol):
    """Gives one or more metrics of an answer, each between 0 and 1 unless it is the user's own."""

    @property
    def metrics(self) -> tuple[str, ...]: ...

    def score(self, prompt: list[dict[str, Any]], answer: str, reference: str) -> dict[str, float]:
        """The value of each metric."""

    def objection(self, reference: str) -> str | None:
        """Why no answer can be measured against this reference; None where one can."""


@dataclass(frozen=True)
class ExactMatchScorer:
    metrics = ("exact_match",)

    def score(self, prompt: list[dict[str, Any]], answer: str, reference: str) -> dict[str, float]:
        return {"exact_match": float(answer.strip() == reference.strip())}

    def objection(self, reference: str) -> str | None:
        return None if reference.strip() else "the reference answer is empty"


@dataclass(frozen=True)
class ContainsScorer:
    ignore_case: bool
    metrics = ("contains",)

    def score(self, prompt: list[dict[str, Any]], answer: str, reference: str) -> dict[str, float]:
        wanted = reference.strip()
        if self.ignore_case:
            wanted, answer = wanted.casefold(), answer.casefold()
        return {"contains": float(wanted in answer)}

    def objection(self, reference: str) -> str | None:
        return None if reference.strip() else "the reference answer is empty"


@dataclass(frozen=True)
class RegexScorer:
    pattern: re.Pattern[str]
    metrics = ("regex",)

    def score(self, prompt: list[dict[str, Any]], answer: str, reference: str) -> dict[str, float]:
        return {"regex": float(self.pattern.search(answer) is not None)}

    def objection(self, reference: str) -> str | None:
        return None


@dataclass(frozen=True)
class LabelScorer:
    """The answer is the right label, or at least one of the labels."""

    labels: tuple[str, ...]
    ignore_case: bool
    metrics = ("label_accuracy", "label_valid")

    def score(self, prompt: list[dict[str, Any]], answer: str, reference: str) -> dict[str, float]:
        said = self._folded(answer)
        return {"label_accuracy": float(said == self._folded(reference)), "label_valid": float(said in self.known)}

    def objection(self, reference: str) -> str | None:
        if self._folded(reference) in self.known:
            return None
        return f"the reference {_short(reference)} is none of the labels {', '.join(self.labels)}"

    @property
    def known(self) -> set[str]:
        return {self._folded(label) for label in self.labels}

    def _folded(self, text: str) -> str:
        return text.strip().casefold() if self.ignore_case else text.strip()


@dataclass(frozen=True)
class JsonScorer:
    """The whole answer is JSON (RFC 8259: no NaN, no code fence), satisfies the schema, equals the reference."""

    fields: tuple[str, ...]
    validator: Any = None
    schema_path: str = ""

    @property
    def metrics(self) -> tuple[str, ...]:
        return ("json_valid", "json_equal", *(f"json_field_{name}" for name in self.fields))

    def score(self, prompt: list[dict[str, Any]], answer: str, reference: str) -> dict[str, float]:
        try:
            said = parse_json(answer)
        except ValueError:
            return dict.fromkeys(self.metrics, 0.0)
        wanted = parse_json(reference)
        values = [self._satisfies(said), json_equal(said, wanted)]
        values += [_same_field(said, wanted, name) for name in self.fields]
        return {metric: float(value) for metric, value in zip(self.metrics, values, strict=True)}

    def objection(self, reference: str) -> str | None:
        try:
            wanted = parse_json(reference)
        except ValueError as error:
            return f"the reference {_short(reference)} is not JSON: {error}"
        if self.fields and not isinstance(wanted, dict):
            return f"the reference {_short(reference)} is not a JSON object, so it has no fields"
        if not self._satisfies(wanted):
            return f"the reference {_short(reference)} does not satisfy the schema {self.schema_path}"
        return None

    def _satisfies(self, value: Any) -> bool:
        if self.validator is None:
            return True
        try:
            return bool(self.validator.is_valid(value))
        except (Unresolvable, re.error) as error:
            raise SpecError(
                f"The JSON Schema cannot be applied: {error}", where=self.schema_path, fix="Fix that $ref or pattern."
            ) from None


def build_scorers(scorers: Sequence[Scorer], folder: Path) -> list[AnswerScorer]:
    """The scorers that look at answers; `loss` looks at none and is left out.

    Args:
        folder: the run file's folder: schema paths start there, and a custom scorer's module is looked for there first.

    Raises:
        SpecError: a schema is missing or not valid, a custom function cannot be imported or called.
    """
    return [_build(scorer, folder) for scorer in scorers if not isinstance(scorer, HoldoutLoss)]


def _build(
    scorer: ExactMatch | Contains | RegexMatch | LabelAccuracy | JsonMatch | CustomScorer, folder: Path
) -> AnswerScorer:
    match scorer:
        case ExactMatch():
            return ExactMatchScorer()
        case Contains():
            return ContainsScorer(scorer.ignore_case)
        case RegexMatch():
            return RegexScorer(re.compile(scorer.pattern))
        case LabelAccuracy():
            built = LabelScorer(scorer.labels, scorer.ignore_case)
            if len(built.known) < len(scorer.labels):
                raise SpecError(
                    f"Two labels are the same: {', '.join(scorer.labels)}.",
                    where="evaluation.scorers",
                    fix="Name each label once; set `ignore_case: false` if they differ only in case.",
                )
            return built
        case JsonMatch():
            if scorer.schema_path is None:
                return JsonScorer(scorer.fields)
            path = resolve_path(scorer.schema_path, folder)
            return JsonScorer(scorer.fields, _validator(path), str(path))
        case CustomScorer():
            return load_scorer(scorer.function, resolve_path(scorer.folder, folder))


def _validator(path: Path) -> Any:
    where = f"evaluation.scorers.schema_path: {path}"
    try:
        schema = json.loads(path.read_text(encoding="utf-8"))
        kind = validator_for(schema, default=jsonschema.Draft202012Validator)
        kind.check_schema(schema)
    except jsonschema.SchemaError as error:
        raise SpecError(
            f"{path.name} is not a valid JSON Schema: {error.message} (at {error.json_path})",
            where=where,
            fix="Fix the schema at that place.",
        ) from None
    except (ValueError, OSError, TypeError) as error:
        raise SpecError(f"{path.name} cannot be read as JSON: {error}", where=where, fix="Fix the file.") from None
    return kind(schema, registry=Registry())  # an empty registry: a $ref never reaches for the network


def check_references(scorers: Sequence[AnswerScorer], examples: Sequence[Example]) -> None:
    """Check that each held-out example can be scored.

    Raises:
        DataError: a reference is not what a scorer compares with; names the row.
        SpecError: a field to compare is in no reference.
    """
    for example in examples:
        for scorer in scorers:
            is_text = example.text is not None
            problem = "the row is plain text, without an answer" if is_text else scorer.objection(example.reference)
            if problem:
                raise DataError(
                    f"{', '.join(scorer.metrics)} cannot be measured: {problem}.",
                    where=example.origin,
                    fix="Fix that row, or change evaluation.scorers (and gate.metric) to what fits the data.",
                )
    for scorer in scorers if examples else ():
        if isinstance(scorer, JsonScorer):
            known = sorted({name for example in examples for name in parse_json(example.reference)})
            for field in scorer.fields:
                if field not in known:
                    near = difflib.get_close_matches(field, known, n=1)
                    raise SpecError(
                        f"No held-out reference has a field `{field}`.",
                        where="evaluation.scorers.fields",
                        fix=f"Did you mean `{near[0]}`?" if near else f"Name one of {', '.join(known)}.",
                    )


def score_answers(
    scorers: Sequence[AnswerScorer],
    examples: Sequence[Example],
    prompts: Sequence[list[dict[str, Any]]],
    answers: Sequence[str],
) -> dict[str, list[float]]:
    """Every metric of every answer, in the order of the examples.

    Raises:
        SpecError: a custom scorer raised, or did not return a number; names the example.
    """
    values: dict[str, list[float]] = {metric: [] for scorer in scorers for metric in scorer.metrics}
    for example, prompt, answer in zip(examples, prompts, answers, strict=True):
        for scorer in scorers:
            try:
                found = scorer.score(prompt, answer, example.reference)
            except CustomError as error:
                where = f"{error.where}, called with {example.origin}"
                raise SpecError(error.what, where=where, fix=error.fix) from error.__cause__
            for metric, value in found.items():
                values[metric].append(value)
    return values


def parse_json(text: str) -> Any:
    """Raises ValueError where the text is not JSON; NaN and Infinity are not (RFC 8259, section 6)."""
    try:
        return json.loads(text, parse_constant=_no_constant)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _no_constant(name: str) -> Callable[[], None]:
    raise ValueError(f"{name} is not JSON")


def json_equal(left: Any, right: Any) -> bool:
    """Equality of JSON values: 1 equals 1.0, true does not equal 1, the order of keys does not matter."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(json_equal(value, right[key]) for key, value in left.items())
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(json_equal, left, right))
    return bool(left == right)


def _same_field(said: Any, wanted: Any, name: str) -> bool:
    """Equal in this field; a field that the reference does not have must be absent."""
    if not isinstance(said, dict) or (name in said) != (name in wanted):
        return False
    return name not in wanted or json_equal(said[name], wanted[name])


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")
