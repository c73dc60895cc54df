"""How much data a run reads: rows and tokens, estimated without a tokenizer."""

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
"""About right for English; code and other languages have fewer."""
TEMPLATE_TOKENS = 25
"""Tokens that a chat template adds to a row: roles, markers, line breaks."""
KEPT_OF_JSON = 0.8
"""Share of a JSON line that is text; the rest is keys, quotes and brackets."""
MOST_BYTES = 64 * 2**20
"""Bytes of the data that are read; beyond that the count is extrapolated."""
UNKNOWN_SHARE = 0.5
"""If nothing is known about the rows, they are assumed to fill this share of data.max_length."""


@dataclass(frozen=True)
class Workload:
    """What a run reads.

    Attributes:
        rows: to train on; None if that cannot be known without reading the data.
        row_tokens: average length of a row, at most data.max_length.
        longest_tokens: about the longest row; None: not known.
        how: where the figures come from, for the user.
    """

    rows: int | None
    row_tokens: float
    longest_tokens: int | None
    how: str


def workload_of(loaded: LoadedRun, rows: int | None = None) -> Workload:
    """Count the rows of a run's data, and estimate their tokens from their characters.

    Args:
        rows: to train on, if the caller knows.

    Raises:
        SpecError: a path of the run file does not exist.
        DataError: `rows` is below 1, or the data has no rows.
    """
    spec = loaded.spec
    if rows is not None and rows < 1:
        raise DataError(f"--rows is {rows}.", where="--rows", fix="Pass the number of rows to train on, 1 or more.")
    found = _lengths(spec.data.source, loaded.folder)
    if found is None:
        tokens = spec.data.max_length * UNKNOWN_SHARE
        how = f"{tokens:.0f} tokens a row (assumed: half of data.max_length)"
        return Workload(rows or spec.data.max_rows, tokens, None, _rows_in_words(rows, spec) + how)
    counted, mean, longest = found
    if counted == 0:
        raise DataError("The data has no rows.", where="data.source", fix="Use a file with rows.")
    tokens, most = _tokens(spec, mean, longest)
    kept = rows or _kept(counted, spec)
    return Workload(kept, tokens, most, _how(kept, tokens, mean))


def workload_of_rows(spec: RunSpec, examples: Sequence[Example]) -> Workload:
    """The same from the rows that a run will train on, once they have been read."""
    lengths = [_characters(example) for example in examples]
    mean = sum(lengths) / max(1, len(lengths))
    tokens, most = _tokens(spec, mean, max(lengths, default=0))
    return Workload(max(1, len(examples)), tokens, most, _how(len(examples), tokens, mean))


def _how(rows: int, tokens: float, characters: float) -> str:
    return f"{rows:,} rows, about {tokens:.0f} tokens each ({characters:.0f} characters, 4 per token)"


def _characters(example: Example) -> int:
    """Of the text, or of the conversation with the longer of its answers."""
    if example.text is not None:
        return len(example.text)
    said = sum(len(str(message.get("content") or "")) for message in example.messages)
    answers = [sum(len(str(message.get("content") or "")) for message in part) for part in _answers(example)]
    return said + max(0, max(answers) - answers[0])


def _answers(example: Example) -> list[Sequence[dict[str, object]]]:
    return [example.completion, *([example.rejected] if example.rejected is not None else [])]


def _tokens(spec: RunSpec, mean: float, longest: float) -> tuple[float, int]:
    """Tokens of an average row and of about the longest, from their characters."""
    on_average = min(spec.data.max_length, mean / CHARACTERS_A_TOKEN + TEMPLATE_TOKENS)
    return on_average, min(spec.data.max_length, int(longest / CHARACTERS_A_TOKEN * 1.3) + TEMPLATE_TOKENS)


def _rows_in_words(rows: int | None, spec: RunSpec) -> str:
    if rows is not None:
        return f"{rows:,} rows (--rows), "
    return f"{spec.data.max_rows:,} rows (data.max_rows), " if spec.data.max_rows else ""


def _kept(counted: int, spec: RunSpec) -> int:
    """Rows that are left to train on after the hold-out is split off."""
    left = counted
    if isinstance(spec.data.holdout, SplitHoldout):
        left = max(1, round(counted * (1 - spec.data.holdout.fraction)))
    return min(left, spec.data.max_rows or left)


def _lengths(source: DataSource, folder: Path) -> tuple[int, float, int] | None:
    """Rows, and characters of an average and of the longest row; None if only the data's own reader can count them."""
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
            f"Cannot read `{file}`: {error.strerror}.", where="data.source", fix="Use a file that you may read."
        ) from error
    header = 1 if file.suffix == ".csv" and rows else 0
    share = KEPT_OF_JSON if file.suffix == ".jsonl" else 1.0
    return rows - header, share * characters / max(1, rows), int(share * longest)


def _count_parquet(file: Path) -> tuple[int, float, int]:
    """From the footer, which has rows and bytes; the longest row is assumed to be four times the mean."""
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    try:
        footer = ParquetFile(file).metadata
    except (OSError, ArrowException) as error:
        raise DataError(
            f"Cannot read `{file}` as Parquet: {str(error).splitlines()[0].rstrip('.')}.",
            where="data.source",
            fix="Check that the file is complete.",
        ) from error
    size = sum(footer.row_group(group).total_byte_size for group in range(footer.num_row_groups))
    mean = size / max(1, footer.num_rows)
    return footer.num_rows, mean, int(4 * mean)
