"""How much a run has to read: rows and tokens, estimated from the size of its data without a tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from runspec.data import DataSource, FileData, FolderData, SplitHoldout
from runspec.errors import DataError
from runspec.load import LoadedRun
from runspec.paths import resolve_path
from runspec.run import RunSpec
from training.data.example import Example

CHARACTERS_A_TOKEN = 4.0
"""About what English text has; code and other languages have fewer."""
TEMPLATE_TOKENS = 25
"""Tokens that a chat template adds to a row: roles, markers, line ends."""
KEPT_OF_JSON = 0.8
"""Share of a JSON line's characters that are text and not keys, quotes and brackets."""
MOST_BYTES = 64 * 2**20
"""Bytes of the data that are read to count; beyond that the count is extrapolated."""
UNKNOWN_SHARE = 0.5
"""Where nothing is known of the rows, they are taken to fill this share of data.max_length."""


@dataclass(frozen=True)
class Workload:
    """What a run reads.

    Attributes:
        rows: to train on; None where that cannot be known without reading the data.
        row_tokens: of a row on average, data.max_length applied.
        longest_tokens: about the longest row; None where it is not known.
        how: where the numbers are from, in words.
    """

    rows: int | None
    row_tokens: float
    longest_tokens: int | None
    how: str


def workload_of(loaded: LoadedRun, rows: int | None = None) -> Workload:
    """Count the rows of a run's data, and estimate their tokens from their characters.

    Args:
        rows: to train on, where the caller knows better.

    Raises:
        SpecError: a path of the run file leads nowhere.
        DataError: `rows` is no count, or the data has no row.
    """
    spec = loaded.spec
    if rows is not None and rows < 1:
        raise DataError(f"--rows is {rows}.", where="--rows", fix="Name the number of rows to train on, 1 or more.")
    found = _lengths(spec.data.source, loaded.folder)
    if found is None:
        tokens = spec.data.max_length * UNKNOWN_SHARE
        how = f"{tokens:.0f} tokens a row (assumed: half of data.max_length)"
        return Workload(rows or spec.data.max_rows, tokens, None, _rows_in_words(rows, spec) + how)
    counted, mean, longest = found
    if counted == 0:
        raise DataError("The data has no row.", where="data.source", fix="Name a file with rows.")
    tokens, most = _tokens(spec, mean, longest)
    kept = rows or _kept(counted, spec)
    how = f"{kept:,} rows, about {tokens:.0f} tokens each ({mean:.0f} characters, 4 a token)"
    return Workload(kept, tokens, most, how)


def workload_of_rows(spec: RunSpec, examples: Sequence[Example]) -> Workload:
    """The same from the rows that a run will train on, once they were read."""
    lengths = [_characters(example) for example in examples]
    mean = sum(lengths) / max(1, len(lengths))
    tokens, most = _tokens(spec, mean, max(lengths, default=0))
    how = f"{len(examples):,} rows, about {tokens:.0f} tokens each ({mean:.0f} characters, 4 a token)"
    return Workload(max(1, len(examples)), tokens, most, how)


def _characters(example: Example) -> int:
    """Of the conversation or the text; of two answers the longer counts."""
    if example.text is not None:
        return len(example.text)
    said = sum(len(str(message.get("content") or "")) for message in example.messages)
    answers = [sum(len(str(message.get("content") or "")) for message in part) for part in _answers(example)]
    return said + max(0, max(answers) - answers[0])


def _answers(example: Example) -> list[Sequence[dict[str, object]]]:
    return [example.completion, *([example.rejected] if example.rejected is not None else [])]


def _tokens(spec: RunSpec, mean: float, longest: float) -> tuple[float, int]:
    """Tokens of a row on average, and about the longest's, out of characters."""
    on_average = min(spec.data.max_length, mean / CHARACTERS_A_TOKEN + TEMPLATE_TOKENS)
    return on_average, min(spec.data.max_length, int(longest / CHARACTERS_A_TOKEN * 1.3) + TEMPLATE_TOKENS)


def _rows_in_words(rows: int | None, spec: RunSpec) -> str:
    if rows is not None:
        return f"{rows:,} rows (--rows), "
    return f"{spec.data.max_rows:,} rows (data.max_rows), " if spec.data.max_rows else ""


def _kept(counted: int, spec: RunSpec) -> int:
    """Rows that are left to train on once a part is held out."""
    left = counted
    if isinstance(spec.data.holdout, SplitHoldout):
        left = max(1, round(counted * (1 - spec.data.holdout.fraction)))
    return min(left, spec.data.max_rows or left)


def _lengths(source: DataSource, folder: Path) -> tuple[int, float, int] | None:
    """Rows, and characters of a row on average and at most; None where only the data's own reader could tell."""
    match source:
        case FileData():
            files = [resolve_path(source.path, folder)]
        case FolderData():
            path = resolve_path(source.path, folder)
            files = sorted(file for file in path.glob(source.pattern) if file.is_file())
        case _:
            return None
    if not files or any(file.suffix not in (".jsonl", ".csv", ".parquet") for file in files):
        return None
    parts = [_count_parquet(file) if file.suffix == ".parquet" else _count(file) for file in files]
    rows = sum(part[0] for part in parts)
    characters = sum(part[0] * part[1] for part in parts)
    return rows, characters / max(1, rows), max(part[2] for part in parts)


def _count(file: Path) -> tuple[int, float, int]:
    """Lines of one file, and their length on average and at most."""
    rows = characters = longest = read = 0
    try:
        with file.open("rb") as stream:
            for line in stream:
                read += len(line)
                if line.strip():
                    rows, characters, longest = rows + 1, characters + len(line), max(longest, len(line))
                if read >= MOST_BYTES:
                    rows = int(rows * file.stat().st_size / read)
                    characters = int(characters * file.stat().st_size / read)
                    break
    except OSError as error:
        raise DataError(
            f"{file} cannot be read: {error.strerror}.", where="data.source", fix="Name a file that can be read."
        ) from error
    header = 1 if file.suffix == ".csv" and rows else 0
    share = KEPT_OF_JSON if file.suffix == ".jsonl" else 1.0
    return rows - header, share * characters / max(1, rows), int(share * longest)


def _count_parquet(file: Path) -> tuple[int, float, int]:
    """The same of a Parquet file, whose footer tells rows and bytes; the longest is taken to be four times the mean."""
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    try:
        footer = ParquetFile(file).metadata
    except (OSError, ArrowException) as error:
        raise DataError(
            f"{file} cannot be read as Parquet: {str(error).splitlines()[0]}",
            where="data.source",
            fix="Check that the file is whole.",
        ) from error
    size = sum(footer.row_group(group).total_byte_size for group in range(footer.num_row_groups))
    mean = size / max(1, footer.num_rows)
    return footer.num_rows, mean, int(4 * mean)
