"""From the run file's `data` to examples to train on and examples held out, with every row's fate counted."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

from runspec.data import DataSpec, SourceHoldout, SplitHoldout
from runspec.errors import DataError
from training.data.example import Example
from training.data.holdout import split
from training.data.layouts import NEEDED, BadRowError, detect, to_example
from training.data.read import Row, read_rows

FEW_ROWS = 500
"""Below it, tuning tends to learn the rows rather than the task."""
LISTED = 5
"""Problems that one error lists."""
LOOKED_AT = 20
"""Rows that the layout is found from."""


@dataclass(frozen=True)
class BadRow:
    """A row that was set aside."""

    origin: str
    problem: str


@dataclass(frozen=True)
class Fates:
    """Rows by what became of them. `repeated` rows are among the others: they are counted, not left out."""

    read: int
    bad: int
    repeated: int
    left_out: int
    """By data.max_rows."""
    trained: int
    held_out: int


@dataclass(frozen=True)
class Curated:
    """The data of a run.

    Attributes:
        train, holdout: the two sides.
        layout: found or named.
        fates: every row's.
        bad_rows: those that were set aside.
        warnings: sentences for the user.
        digest: sha256 over the rows and their sides.
    """

    train: list[Example]
    holdout: list[Example]
    layout: str
    fates: Fates
    bad_rows: list[BadRow]
    warnings: list[str]
    digest: str


def curate(spec: DataSpec, folder: Path, seed: int) -> Curated:
    """Read, validate and split the data.

    Args:
        spec: the run file's `data`.
        folder: the run file's folder.
        seed: of the split and of the choice that `max_rows` makes.

    Raises:
        DataError: the data cannot be read; a row is bad and `on_bad_row` is stop; nothing is left to train on.
    """
    group_key = spec.holdout.group_key if isinstance(spec.holdout, SplitHoldout) else None
    layout, examples, bad = _examples(read_rows(spec.source, folder), spec, group_key)
    if not examples:
        raise DataError("The data has no rows.", where="data.source", fix="Name a source with rows.")
    if isinstance(spec.holdout, SourceHoldout):
        train = examples
        _, holdout, bad_holdout = _examples(read_rows(spec.holdout.source, folder), spec, None)
        bad += bad_holdout
        _refuse_leak(train, holdout)
    else:
        train, holdout = split(examples, spec.holdout.fraction, seed)
    if not holdout:
        raise DataError("The hold-out has no rows.", where="data.holdout.source", fix="Name a source with rows.")
    kept = _choose(train, spec.max_rows, seed)
    counts = Counter(example.digest for example in [*train, *holdout])
    fates = Fates(
        read=len(train) + len(holdout) + len(bad),
        bad=len(bad),
        repeated=sum(count - 1 for count in counts.values()),
        left_out=len(train) - len(kept),
        trained=len(kept),
        held_out=len(holdout),
    )
    return Curated(kept, holdout, layout, fates, bad, _warnings(fates), _digest(kept, holdout))


def _examples(rows: Iterable[Row], spec: DataSpec, group_key: str | None) -> tuple[str, list[Example], list[BadRow]]:
    stream = iter(rows)
    first = list(islice(stream, LOOKED_AT))
    layout = spec.layout if spec.layout != "auto" else _detected(first)
    examples: list[Example] = []
    bad: list[BadRow] = []
    for row in chain(first, stream):
        try:
            examples.append(_example(row, layout, spec, group_key))
        except BadRowError as error:
            bad.append(BadRow(row.origin, str(error)))
            if spec.on_bad_row == "stop" and len(bad) == LISTED:
                break
    if bad and spec.on_bad_row == "stop":
        raise _bad_rows(bad, layout)
    if len(bad) > len(examples):
        raise _mostly_bad(bad, len(examples), layout)
    return layout, examples, bad


def _detected(first: list[Row]) -> str:
    readable = [row.values for row in first if row.values is not None]
    if not readable:
        if not first:
            raise DataError("The data has no rows.", where="data.source", fix="Name a source with rows.")
        raise _bad_rows([BadRow(row.origin, row.problem) for row in first[:LISTED]], "unknown")
    return detect(readable)


def _example(row: Row, layout: str, spec: DataSpec, group_key: str | None) -> Example:
    if row.values is None:
        raise BadRowError(row.problem)
    return to_example(row.values, layout, row.origin, system_prompt=spec.system_prompt, group_key=group_key)


def _bad_rows(bad: list[BadRow], layout: str) -> DataError:
    rest = "".join(f"\n    {row.origin}: {row.problem}" for row in bad[1:])
    return DataError(
        f"{bad[0].origin}: {bad[0].problem}" + (f"\n  and so on:{rest}" if rest else ""),
        where=f"{bad[0].origin} (layout {layout}{', needs ' + ', '.join(NEEDED[layout]) if layout in NEEDED else ''})",
        fix="Mend the rows, or set data.on_bad_row: skip to go on without them.",
    )


def _mostly_bad(bad: list[BadRow], good: int, layout: str) -> DataError:
    return DataError(
        f"{len(bad)} of {len(bad) + good} rows are bad; the first, {bad[0].origin}: {bad[0].problem}",
        where=f"data.source (layout {layout})",
        fix="Check data.layout: skipping is for a few bad rows, not for most of them.",
    )


def _refuse_leak(train: list[Example], holdout: list[Example]) -> None:
    trained = {example.digest: example.origin for example in train}
    leaked = [example for example in holdout if example.digest in trained]
    if leaked:
        raise DataError(
            f"{len(leaked)} of {len(holdout)} held-out rows also stand in the training data.",
            where=f"{leaked[0].origin} is {trained[leaked[0].digest]}",
            fix="Take them out of one of the two, or let the split do it: holdout: {kind: split}.",
        )


def _choose(train: list[Example], most: int | None, seed: int) -> list[Example]:
    if most is None or len(train) <= most:
        return train
    chosen = sorted(random.Random(seed).sample(range(len(train)), most))
    return [train[place] for place in chosen]


def _warnings(fates: Fates) -> list[str]:
    found = []
    if fates.trained < FEW_ROWS:
        found.append(
            f"warning: {fates.trained} training rows are few; below {FEW_ROWS} a model tends to learn the rows "
            "rather than the task: watch the hold-out, and try few-shot prompting first"
        )
    if fates.repeated:
        found.append(f"warning: {fates.repeated} rows repeat another one exactly")
    return found


def _digest(train: list[Example], holdout: list[Example]) -> str:
    whole = hashlib.sha256()
    for side, examples in (("train", train), ("holdout", holdout)):
        for example in examples:
            whole.update(f"{side}:{example.digest}\n".encode())
    return f"sha256:{whole.hexdigest()}"
