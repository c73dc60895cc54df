"""Curation: rows read, filtered, split, balanced and mixed; the funnel tells what became of each."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path

from runspec.curation import CurationSpec
from runspec.data import CONVERSATIONS, DataSource, DataSpec, Layout, SplitHoldout
from runspec.errors import DataError
from training.data.balance import over_balance
from training.data.cautions import curation_warnings
from training.data.certificate import LeakCertificate, certify
from training.data.columns import check_column, column_value
from training.data.example import Example
from training.data.funnel import Funnel
from training.data.holdout import check_apart, hash64, split_holdout
from training.data.layouts import choose_layout, fitting, read_row
from training.data.read import Row, read_rows, source_name
from training.data.replay import SETTING as REPLAY
from training.data.replay import pick_replay
from training.data.tidy import apart_from, tidy
from training.data.values import RowError

FIRST_ROWS = 20
"""Rows that the layout is decided from."""
PROBLEMS_SHOWN = 5
SKIP = "set data.on_bad_row: skip to set bad rows aside and go on"
GROUP_KEY = "data.holdout.group_key"
BALANCE_COLUMN = "data.curation.balance.column"


@dataclass(frozen=True)
class BadRow:
    """A row that was set aside."""

    origin: str
    problem: str


@dataclass(frozen=True)
class Curated:
    """Data ready to train on and to measure with.

    Attributes:
        train: in the order of the source; replay rows behind them.
        holdout: never trained on.
        layout: found or named.
        funnel: what became of every row.
        certificate: what the two sides share.
        bad_rows: set aside, with the reason.
        warnings: what the user should know.
        digest: sha256 over all rows and their sides, whatever their order.
    """

    train: list[Example]
    holdout: list[Example]
    layout: Layout
    funnel: Funnel
    certificate: LeakCertificate
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
    sources: list[_Gathered]


def curate(spec: DataSpec, folder: Path, seed: int, layouts: Sequence[Layout] = CONVERSATIONS) -> Curated:
    """Read, validate, filter, split, balance and mix the data of a run.

    Nothing depends on the order of the rows: shuffled, they give the same sides.

    Args:
        spec: the run file's `data`.
        folder: the run file's folder, which relative paths start from.
        seed: the run's; it chooses the rows under `max_rows`, `balance` and `replay`, and nothing else.
        layouts: those that the training method can use.

    Raises:
        DataError: a source cannot be read, its layout is not clear, rows are bad and `on_bad_row` is stop, more than
            half of them are, a side is left without rows, or rows cannot be balanced as asked.
    """
    funnel = Funnel()
    sides = _split(spec, folder, layouts, funnel)
    train = _at_most(_balanced(sides.train, spec.curation, seed, funnel), spec.max_rows, seed, funnel)
    replay = _replay(spec, folder, layouts, train, sides, seed, funnel)
    bad_rows = [row for source in sides.sources for row in source.bad_rows]
    layout = sides.sources[0].layout
    train = _with_system(train, spec.system_prompt) + replay
    holdout = _with_system(sides.holdout, spec.system_prompt)
    certificate = certify(train, holdout, spec.curation.duplicates)
    warnings = curation_warnings(train, len(replay), layout, funnel, certificate, spec)
    return Curated(train, holdout, layout, funnel, certificate, bad_rows, warnings, _digest(train, holdout))


def _split(spec: DataSpec, folder: Path, layouts: Sequence[Layout], funnel: Funnel) -> _Sides:
    if isinstance(spec.holdout, SplitHoldout):
        gathered = _gather_own(spec, folder, layouts)
        _count(gathered, funnel)
        examples, links = tidy(gathered.examples, spec.curation, funnel)
        held = split_holdout(examples, spec.holdout.fraction, links)
        holdout = [example for example, is_held in zip(examples, held, strict=True) if is_held]
        rest = [example for example, is_held in zip(examples, held, strict=True) if not is_held]
        funnel.count("held out", -len(holdout))
        train = apart_from(rest, holdout, spec.curation, funnel)
        if not train:
            what = "every training row is a copy of a held-out row of another group, or like one"
            raise DataError(what, where="data.holdout.group_key", fix="choose groups that share no rows")
        return _Sides(train, holdout, [gathered])
    gathered = _gather_own(spec, folder, layouts)
    asked = _Asked(spec.holdout.source, "data.holdout.source")
    apart = _gather(spec, asked, folder, (gathered.layout,), or_among=CONVERSATIONS)
    check_apart(gathered.examples, apart.examples)
    _count(gathered, funnel)
    _count(apart, funnel, "hold-out: ")
    funnel.count("held out", -len(apart.examples))
    examples, _ = tidy(gathered.examples, spec.curation, funnel)
    train = apart_from(examples, apart.examples, spec.curation, funnel)
    if not train:
        what = "every training row is like a row of the hold-out"
        raise DataError(what, where="data.holdout.source", fix="name a hold-out that shares no rows with the data")
    return _Sides(train, apart.examples, [gathered, apart])


def _count(gathered: _Gathered, funnel: Funnel, of: str = "") -> None:
    funnel.count(f"{of}read", gathered.read)
    bad = gathered.bad_rows
    funnel.count(f"{of}bad", -len(bad), bad[0].problem if bad else "")


def _balanced(train: list[Example], spec: CurationSpec, seed: int, funnel: Funnel) -> list[Example]:
    if spec.balance is None:
        return train
    gone = over_balance(train, spec.balance, seed)
    funnel.drop(f"balance of {spec.balance.column}", [(train[place], gone[place]) for place in sorted(gone)])
    return [example for place, example in enumerate(train) if place not in gone]


def _replay(
    spec: DataSpec,
    folder: Path,
    layouts: Sequence[Layout],
    train: list[Example],
    sides: _Sides,
    seed: int,
    funnel: Funnel,
) -> list[Example]:
    replay = spec.curation.replay
    if replay is None:
        return []
    asked = _Asked(replay.source, f"{REPLAY}.source", replay.layout, f"{REPLAY}.layout")
    gathered = _gather(spec, asked, folder, layouts)
    _count(gathered, funnel, "replay: ")
    sides.sources.append(gathered)
    return pick_replay(gathered.examples, train, sides.holdout, spec.curation.duplicates, replay.share, seed, funnel)


@dataclass(frozen=True)
class _Columns:
    """Columns whose value goes with each row: None where rows are not grouped, or not balanced."""

    group: str | None = None
    balance: str | None = None


@dataclass(frozen=True)
class _Asked:
    """A source, its layout, and the keys of the run file that name the two; and the columns that its rows need."""

    source: DataSource
    key: str
    layout: Layout = "auto"
    layout_key: str = "data.layout"
    columns: _Columns = _Columns()


def _gather_own(spec: DataSpec, folder: Path, layouts: Sequence[Layout]) -> _Gathered:
    balance = spec.curation.balance
    group = spec.holdout.group_key if isinstance(spec.holdout, SplitHoldout) else None
    columns = _Columns(group, None if balance is None else balance.column)
    return _gather(spec, _Asked(spec.source, "data.source", spec.layout, columns=columns), folder, layouts)


def _gather(
    spec: DataSpec, asked: _Asked, folder: Path, layouts: Sequence[Layout], or_among: Sequence[Layout] = ()
) -> _Gathered:
    """All rows of a source as examples, the bad ones set aside or raised.

    Args:
        layouts: those that they may be in.
        or_among: others, looked at where they are in none of the first.
    """
    name, columns = source_name(asked.source), asked.columns
    rows = read_rows(asked.source, folder, asked.key)
    first = list(islice(rows, FIRST_ROWS))
    readable = [row for row in first if not row.problem]
    if not readable:
        raise _bad([BadRow(row.origin, row.problem) for row in first], name, "none of the first rows can be read", SKIP)
    if or_among and not fitting(readable, layouts):
        layouts = or_among
    gathered = _Gathered(choose_layout(asked.layout, readable, name, layouts, key=asked.layout_key))
    for column, setting in ((columns.group, GROUP_KEY), (columns.balance, BALANCE_COLUMN)):
        if column is not None:
            check_column(readable, column, setting, name)
    most = PROBLEMS_SHOWN if spec.on_bad_row == "stop" else None
    _read_all(chain(first, rows), gathered, columns, most)
    bad = gathered.bad_rows
    if bad and most is not None:
        what = f"{len(bad)} bad row{'s' * (len(bad) > 1)}" + ", perhaps more" * (len(bad) == most)
        raise _bad(bad, name, what, SKIP)
    if 2 * len(bad) > gathered.read:
        raise _bad(
            bad, name, f"{len(bad)} of {gathered.read} rows are bad, more than half", f"name another {asked.layout_key}"
        )
    return gathered


def _read_all(rows: Iterable[Row], gathered: _Gathered, columns: _Columns, most: int | None) -> None:
    for row in rows:
        try:
            if row.problem:
                gathered.bad_rows.append(BadRow(row.origin, row.problem))
            else:
                example = read_row(row, gathered.layout, columns.group)
                if columns.balance is not None:
                    example = replace(example, stratum=column_value(row, columns.balance, BALANCE_COLUMN))
                gathered.examples.append(example)
        except RowError as error:
            gathered.bad_rows.append(BadRow(row.origin, str(error)))
        if most is not None and len(gathered.bad_rows) >= most:
            return


def _bad(rows: Sequence[BadRow], name: str, what: str, or_else: str) -> DataError:
    lines = "".join(f"\n  - {row.origin}: {row.problem}" for row in rows[:PROBLEMS_SHOWN])
    return DataError(f"{name}: {what}:{lines}", where=rows[0].origin, fix=f"fix these rows, or {or_else}")


def _at_most(examples: list[Example], most: int | None, seed: int, funnel: Funnel) -> list[Example]:
    """`most` of the examples, chosen by seed and content, in their order."""
    if most is None:
        return examples
    ranks = {place: hash64(f"{seed}|{example.digest}") for place, example in enumerate(examples)}
    chosen = set(sorted(ranks, key=lambda place: (ranks[place], place))[:most])
    reason = f"data.max_rows is {most:,}; the seed chose others"
    funnel.drop(
        "over data.max_rows", [(example, reason) for place, example in enumerate(examples) if place not in chosen]
    )
    return [example for place, example in enumerate(examples) if place in chosen]


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


def _digest(train: Sequence[Example], holdout: Sequence[Example]) -> str:
    lines = [f"train {example.digest}" for example in train] + [f"holdout {example.digest}" for example in holdout]
    return f"sha256:{hashlib.sha256(chr(10).join(sorted(lines)).encode()).hexdigest()}"
