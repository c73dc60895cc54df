"""Curation: rows read, filtered, split, balanced and mixed; the funnel says what happened to each."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path

from runspec.data import CONVERSATIONS, DataSource, DataSpec, Layout, SplitHoldout
from runspec.errors import DataError
from training.curation.balance import over_balance
from training.curation.cautions import curation_warnings
from training.curation.certificate import LeakCertificate, certify
from training.curation.duplicates import Links, apart_from_holdout, without_duplicates
from training.curation.filters import keep_good
from training.curation.funnel import Funnel
from training.curation.holdout import check_apart, hash64, split_holdout
from training.curation.replay import pick_replay
from training.data.example import Example
from training.data.layouts import check_column, choose_layout, column_value, fitting, read_row
from training.data.read import Row, read_rows, source_name
from training.data.values import RowError

FIRST_ROWS = 20
"""Rows that the layout is chosen from."""
PROBLEMS_SHOWN = 5
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
        funnel: what happened to every row.
        certificate: what the two sides share.
        bad_rows: set aside, with the reason.
        warnings: a sentence each.
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

    def count(self, funnel: Funnel, of: str = "") -> None:
        funnel.count(f"{of}read", self.read)
        funnel.count(f"{of}bad", -len(self.bad_rows), self.bad_rows[0].problem if self.bad_rows else "")


@dataclass(frozen=True)
class _Place:
    """Where the run file names a source: the keys of it and of its layout, and the columns that go with each row."""

    source: str
    layout: str
    group: str | None = None
    balance: str | None = None


HOLDOUT = _Place("data.holdout.source", "data.layout")
REPLAY = _Place("data.curation.replay.source", "data.curation.replay.layout")


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
    funnel, curation = Funnel(), spec.curation
    group = spec.holdout.group_key if isinstance(spec.holdout, SplitHoldout) else None
    place = _Place("data.source", "data.layout", group, None if curation.balance is None else curation.balance.column)
    gathered = _gather(spec, spec.source, place, spec.layout, folder, layouts)
    bad_rows = list(gathered.bad_rows)
    if isinstance(spec.holdout, SplitHoldout):
        gathered.count(funnel)
        good, links = _worth_training_on(gathered.examples, spec, funnel)
        held = split_holdout(good, spec.holdout.fraction, links)
        holdout = [example for example, is_held in zip(good, held, strict=True) if is_held]
        rest = [example for example, is_held in zip(good, held, strict=True) if not is_held]
        funnel.count("held out", -len(holdout))
        train = apart_from_holdout(rest, holdout, curation.duplicates, funnel)
        alike = "a copy of a held-out row of another group, or like one"
        where, fix = GROUP_KEY, "Choose groups that share no rows."
    else:
        own = _gather(spec, spec.holdout.source, HOLDOUT, "auto", folder, (gathered.layout,), or_among=CONVERSATIONS)
        holdout, bad_rows = own.examples, bad_rows + own.bad_rows
        check_apart(gathered.examples, holdout)
        gathered.count(funnel)
        own.count(funnel, "hold-out: ")
        funnel.count("held out", -len(holdout))
        good, _ = _worth_training_on(gathered.examples, spec, funnel)
        train = apart_from_holdout(good, holdout, curation.duplicates, funnel)
        alike = "like a row of the hold-out"
        where, fix = HOLDOUT.source, "Name a hold-out that shares no rows with the data."
    if not train:
        raise DataError(f"Every training row is {alike}.", where=where, fix=fix)
    if curation.balance is not None:
        gone = over_balance(train, curation.balance, seed)
        funnel.drop(f"balance of {curation.balance.column}", [(train[at], gone[at]) for at in sorted(gone)])
        train = [example for at, example in enumerate(train) if at not in gone]
    train = _at_most(train, spec.max_rows, seed, funnel)
    mixed: list[Example] = []
    if replay := curation.replay:
        pool = _gather(spec, replay.source, REPLAY, replay.layout, folder, layouts)
        pool.count(funnel, "replay: ")
        bad_rows += pool.bad_rows
        mixed = pick_replay(pool.examples, train, holdout, curation.duplicates, replay.share, seed, funnel)
    train = _with_system(train, spec.system_prompt) + mixed
    holdout = _with_system(holdout, spec.system_prompt)
    certificate = certify(train, holdout, curation.duplicates)
    poor = len(gathered.examples) - len(good)
    warnings = curation_warnings(train, len(mixed), poor, gathered.layout, funnel, certificate, spec)
    return Curated(train, holdout, gathered.layout, funnel, certificate, bad_rows, warnings, _digest(train, holdout))


def _worth_training_on(examples: list[Example], spec: DataSpec, funnel: Funnel) -> tuple[list[Example], Links]:
    """Filters come first, so that of two near-duplicates the one that was cut off is not the one that stays."""
    good = keep_good(examples, spec.curation.filters, funnel)
    return without_duplicates(good, spec.curation.duplicates, funnel)


def _gather(
    spec: DataSpec,
    source: DataSource,
    place: _Place,
    asked: Layout,
    folder: Path,
    layouts: Sequence[Layout],
    or_among: Sequence[Layout] = (),
) -> _Gathered:
    """All rows of a source as examples, the bad ones set aside or raised.

    Args:
        asked: the layout that the run file names.
        layouts: those that the rows may be in.
        or_among: others, looked at where the rows are in none of the first.
    """
    name = source_name(source)
    rows = read_rows(source, folder, place.source)
    first = list(islice(rows, FIRST_ROWS))
    readable = [row for row in first if not row.problem]
    correct_or_skip = "Correct these rows, or set `data.on_bad_row: skip` to set bad rows aside and go on."
    if not readable:
        unreadable = [BadRow(row.origin, row.problem) for row in first]
        raise _bad(unreadable, f"{name}: none of the first rows can be read", correct_or_skip)
    if or_among and not fitting(readable, layouts):
        layouts = or_among
    gathered = _Gathered(choose_layout(asked, readable, name, layouts, key=place.layout))
    for column, setting in ((place.group, GROUP_KEY), (place.balance, BALANCE_COLUMN)):
        if column is not None:
            check_column(readable, column, setting, name)
    most = PROBLEMS_SHOWN if spec.on_bad_row == "stop" else None
    _read_all(chain(first, rows), gathered, place, most)
    bad = gathered.bad_rows
    if bad and most is not None:
        count = f"{len(bad)} bad row{'s' * (len(bad) > 1)}" + ", perhaps more" * (len(bad) == most)
        raise _bad(bad, f"{name}: {count}", correct_or_skip)
    if 2 * len(bad) > gathered.read:
        what = f"{name}: {len(bad)} of {gathered.read} rows are bad, more than half"
        raise _bad(bad, what, f"Correct these rows, or name another {place.layout}.")
    return gathered


def _read_all(rows: Iterable[Row], gathered: _Gathered, place: _Place, most: int | None) -> None:
    for row in rows:
        try:
            if row.problem:
                gathered.bad_rows.append(BadRow(row.origin, row.problem))
            else:
                example = read_row(row, gathered.layout, place.group)
                if place.balance is not None:
                    example = replace(example, stratum=column_value(row, place.balance, BALANCE_COLUMN))
                gathered.examples.append(example)
        except RowError as error:
            gathered.bad_rows.append(BadRow(row.origin, str(error)))
        if most is not None and len(gathered.bad_rows) >= most:
            return


def _bad(rows: Sequence[BadRow], what: str, fix: str) -> DataError:
    lines = "".join(f"\n  - {row.origin}: {row.problem}" for row in rows[:PROBLEMS_SHOWN])
    return DataError(f"{what}:{lines}", where=rows[0].origin, fix=fix)


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
