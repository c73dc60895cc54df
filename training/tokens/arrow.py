"""A run's rows as token ids: made once, by the driver, and mapped into memory by every worker."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cluster.machine.cache import cache_folder
from cluster.store.records import run_path
from cluster.store.storage import Store
from runspec.errors import ConflictError
from runspec.run import RunSpec
from runspec.strict import Strict
from training.data.example import Example
from training.data.rows import Side, read_examples
from training.methods.method import TokenCounts, load_method
from training.model.base_model import BaseModel, load_tokenizer

if TYPE_CHECKING:
    from datasets import Dataset


class RunTokens(Strict):
    """Facts about a run's tokens, which are in the same folder, one Arrow file per side."""

    run_id: str
    """The run in whose folder they are: for a trial, its search."""
    train: TokenCounts
    holdout: TokenCounts | None
    """The rows whose loss is measured at each checkpoint, if there are any."""
    good: int
    """Number of training rows whose answer is to be imitated."""
    bad: int
    """Number of training rows whose answer is to be avoided."""


def write_tokens(store: Store, run_id: str, spec: RunSpec, base: BaseModel) -> RunTokens:
    """Tokenise a run's rows and put the tokens into its folder. The caller then stores what is returned.

    Raises:
        ModelError: the tokenizer cannot be loaded, or its chat template cannot be used.
        DataError: no token would be trained on.
    """
    method, tokenizer = load_method(spec.method.kind), load_tokenizer(base, spec.model, Path())
    train = read_examples(store, run_id, "train")
    most = spec.training.holdout_loss_rows
    rows = read_examples(store, run_id, "holdout") if most else []
    holdout = [example for example in rows if method.can_train_on(example)][:most]

    def write(side: Side, examples: Sequence[Example]) -> TokenCounts:
        tokenized = method.tokenize_rows(examples, tokenizer, spec)
        with tempfile.TemporaryDirectory(prefix="guitarfish-tokens-") as scratch:
            file = Path(scratch, f"{side}.arrow")
            _write_arrow(tokenized.dataset, file)
            # It exists if a driver was killed before it stored the facts: same rows, same tokens.
            with contextlib.suppress(ConflictError):
                store.upload(file, _path(run_id, side))
        return tokenized.counts

    good = sum(example.is_good for example in train)
    return RunTokens(
        run_id=run_id,
        train=write("train", train),
        holdout=write("holdout", holdout) if holdout else None,
        good=good,
        bad=len(train) - good,
    )


def map_tokens(store: Store, tokens: RunTokens, side: Side) -> Dataset:
    """One side's tokens, in memory that a machine's workers share; a remote store's are fetched once per machine."""
    import pyarrow
    from datasets import Dataset
    from datasets.table import InMemoryTable

    path = _path(tokens.run_id, side)
    file = store.local_file(path) or _fetched(store, path, tokens.run_id)
    mapped = pyarrow.ipc.open_stream(pyarrow.memory_map(str(file))).read_all()
    # As a table in memory: next to a file that it knows of, datasets would write its copies, in the store.
    return Dataset(InMemoryTable(mapped))


def _path(run_id: str, side: Side) -> str:
    return run_path(run_id, f"tokens/{side}.arrow")


def _write_arrow(dataset: Dataset, file: Path) -> None:
    import pyarrow

    table = dataset.data.table
    with pyarrow.OSFile(str(file), "wb") as sink, pyarrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)


def _fetched(store: Store, path: str, run_id: str) -> Path:
    folder = cache_folder("tokens", f"{run_id}-{hashlib.sha256(store.uri.encode()).hexdigest()[:8]}")
    file = folder / path.rpartition("/")[2]
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one of this machine's workers fetches, the others wait
        if not file.exists():
            store.download(path, file)
    return file
