"""Curation: rows read, validated, split and counted; every row has one fate."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path

from runspec.data import CONVERSATIONS, DataSource, DataSpec, Layout, SplitHoldout
from runspec.errors import DataError
from training.data.example import Example
from training.data.holdout import check_apart, hash64, split_holdout
from training.data.layouts import choose_layout, fitting, read_row
from training.data.read import Row, read_rows, source_name
from training.data.values import RowError

FIRST_ROWS = 20
"""Rows that the layout is decided from."""
PROBLEMS_SHOWN = 5
FEW_ROWS = 500
"""Below this many training rows a warning is due."""


@dataclass(frozen=True)
class BadRow:
    """A row that was set aside."""

    origin: str
    problem: str


@dataclass(frozen=True)
class Fates:
    """Rows by fate: read = bad + trained + held_out + same_as_held_out + over_max_rows.

    Attributes:
        read: all rows of the source, and of the hold-out's where it has its own.
        bad: set aside.
        trained: on the training side.
        held_out: on the other.
        same_as_held_out: left out of training because a held-out row of another group says the same.
        over_max_rows: left out by `data.max_rows`.
        duplicates: training rows that are exact copies of an earlier one. They are trained on all the same.
    """

    read: int
    bad: int
    trained: int
    held_out: int
    same_as_held_out: int
    over_max_rows: int
    duplicates: int


@dataclass(frozen=True)
class Curated:
    """Data ready to train on and to measure with.

    Attributes:
        train: in the order of the source.
        holdout: never trained on.
        layout: found or named.
        fates: rows by fate.
        bad_rows: set aside, with the reason.
        warnings: what the user should know.
        digest: sha256 over all rows and their sides, whatever their order.
    """

    train: list[Example]
    holdout: list[Example]
    layout: Layout
    fates: Fates
    bad_rows: list[BadRow]
    warnings: list[str]
    digest: str


@dataclass
class _Gathered:
    """What one source gave."""

    layout: Layout
    examples: list[Example] = field(default_factory=list)
    bad_rows: list[BadRow] = field(default_factory=list)

    @property
    def read(self) -> int:
        return len(self.examples) + len(self.bad_rows)


@dataclass(frozen=True)
class _Sides:
    train: list[Example]
    holdout: list[Example]
    same_as_held_out: int
    sources: list[_Gathered]


def curate(spec: DataSpec, folder: Path, seed: int, layouts: Sequence[Layout] = CONVERSATIONS) -> Curated:
    """Read, validate and split the data of a run.

    Args:
        spec: the run file's `data`.
        folder: the run file's folder, which relative paths start from.
        seed: the run's; it chooses the rows under `data.max_rows` and nothing else.
        layouts: those that the training method can use.

    Raises:
        DataError: a source cannot be read, its layout is not clear, rows are bad and `on_bad_row` is stop, more than
            half of them are, or a side is left without rows.
    """
    sides = _split(spec, folder, layouts)
    train = _at_most(sides.train, spec.max_rows, seed)
    bad_rows = [row for source in sides.sources for row in source.bad_rows]
    fates = Fates(
        read=sum(source.read for source in sides.sources),
        bad=len(bad_rows),
        trained=len(train),
        held_out=len(sides.holdout),
        same_as_held_out=sides.same_as_held_out,
        over_max_rows=len(sides.train) - len(train),
        duplicates=len(train) - len({example.digest for example in train}),
    )
    layout = sides.sources[0].layout
    train, holdout = _with_system(train, spec.system_prompt), _with_system(sides.holdout, spec.system_prompt)
    return Curated(train, holdout, layout, fates, bad_rows, _warnings(fates, layout, spec), _digest(train, holdout))


def _split(spec: DataSpec, folder: Path, layouts: Sequence[Layout]) -> _Sides:
    if isinstance(spec.holdout, SplitHoldout):
        gathered = _gather(spec, spec.source, folder, spec.holdout.group_key, layouts)
        held = split_holdout(gathered.examples, spec.holdout.fraction)
        holdout = [example for example, is_held in zip(gathered.examples, held, strict=True) if is_held]
        digests = {example.digest for example in holdout}
        rest = [example for example, is_held in zip(gathered.examples, held, strict=True) if not is_held]
        train = [example for example in rest if example.digest not in digests]
        if not train:
            what = "every training row is a copy of a held-out row of another group"
            raise DataError(what, where="data.holdout.group_key", fix="choose groups that share no rows")
        return _Sides(train, holdout, len(rest) - len(train), [gathered])
    gathered = _gather(spec, spec.source, folder, None, layouts)
    apart = _gather(spec, spec.holdout.source, folder, None, (gathered.layout,), or_among=CONVERSATIONS)
    check_apart(gathered.examples, apart.examples)
    return _Sides(gathered.examples, apart.examples, 0, [gathered, apart])


def _gather(
    spec: DataSpec,
    source: DataSource,
    folder: Path,
    group_key: str | None,
    layouts: Sequence[Layout],
    or_among: Sequence[Layout] = (),
) -> _Gathered:
    """All rows of a source as examples, the bad ones set aside or raised.

    Args:
        layouts: those that they may be in.
        or_among: others, looked at where they are in none of the first.
    """
    name = source_name(source)
    rows = read_rows(source, folder)
    first = list(islice(rows, FIRST_ROWS))
    readable = [row for row in first if not row.problem]
    if not readable:
        raise _bad([BadRow(row.origin, row.problem) for row in first], name, "none of the first rows can be read")
    asked = spec.layout if source is spec.source else "auto"
    if or_among and not fitting(readable, layouts):
        layouts = or_among
    gathered = _Gathered(choose_layout(asked, readable, name, layouts))
    _check_group_key(readable, group_key, name)
    most = PROBLEMS_SHOWN if spec.on_bad_row == "stop" else None
    _read_all(chain(first, rows), gathered, group_key, most)
    bad = gathered.bad_rows
    if bad and most is not None:
        raise _bad(bad, name, f"{len(bad)} bad row{'s' * (len(bad) > 1)}" + ", perhaps more" * (len(bad) == most))
    if 2 * len(bad) > gathered.read:
        raise _bad(bad, name, f"{len(bad)} of {gathered.read} rows are bad, more than half")
    return gathered


def _read_all(rows: Iterable[Row], gathered: _Gathered, group_key: str | None, most: int | None) -> None:
    for row in rows:
        try:
            if row.problem:
                gathered.bad_rows.append(BadRow(row.origin, row.problem))
            else:
                gathered.examples.append(read_row(row, gathered.layout, group_key))
        except RowError as error:
            gathered.bad_rows.append(BadRow(row.origin, str(error)))
        if most is not None and len(gathered.bad_rows) >= most:
            return


def _check_group_key(rows: Sequence[Row], key: str | None, name: str) -> None:
    columns = dict.fromkeys(column for row in rows for column in row.values)
    if key is not None and key not in columns:
        what = f"{name} has no column {key!r}; it has {', '.join(columns) or 'none'}"
        raise DataError(what, where="data.holdout.group_key", fix="name one of its columns, or null")


def _bad(rows: Sequence[BadRow], name: str, what: str) -> DataError:
    lines = "".join(f"\n  - {row.origin}: {row.problem}" for row in rows[:PROBLEMS_SHOWN])
    fix = "mend these rows"
    if "more than half" not in what:
        fix += ", or set data.on_bad_row: skip to set bad rows aside and go on"
    else:
        fix += ", or name another data.layout"
    return DataError(f"{name}: {what}:{lines}", where=rows[0].origin, fix=fix)


def _at_most(examples: list[Example], most: int | None, seed: int) -> list[Example]:
    """`most` of the examples, chosen by seed and content, in their order."""
    if most is None or len(examples) <= most:
        return examples
    ranks = {place: hash64(f"{seed}|{example.digest}") for place, example in enumerate(examples)}
    chosen = sorted(ranks, key=lambda place: (ranks[place], place))[:most]
    return [examples[place] for place in sorted(chosen)]


def _with_system(examples: list[Example], prompt: str | None) -> list[Example]:
    """Every conversation that has no system message given this one."""
    if not prompt:
        return examples
    system = {"role": "system", "content": prompt}
    return [
        replace(example, messages=(system, *example.messages))
        if example.messages and example.messages[0]["role"] != "system"
        else example
        for example in examples
    ]


def _warnings(fates: Fates, layout: Layout, spec: DataSpec) -> list[str]:
    found = []
    if fates.trained < FEW_ROWS:
        found.append(
            f"Only {fates.trained} training rows: with fewer than {FEW_ROWS}, expect the model to pick up form "
            "rather than knowledge, and watch the held-out scores for overfitting"
        )
    if fates.duplicates:
        found.append(f"{fates.duplicates} training rows are exact copies of others; they are trained on all the same")
    if fates.same_as_held_out:
        found.append(f"{fates.same_as_held_out} rows left out of training: a held-out row of another group is the same")
    if layout == "text" and spec.system_prompt:
        found.append("data.system_prompt is not used: rows of plain text have no conversation")
    return found


def _digest(train: Sequence[Example], holdout: Sequence[Example]) -> str:
    lines = [f"train {example.digest}" for example in train] + [f"holdout {example.digest}" for example in holdout]
    return f"sha256:{hashlib.sha256(chr(10).join(sorted(lines)).encode()).hexdigest()}"
