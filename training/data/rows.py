"""The curated rows of a run in the store: written once by the driver, as JSON lines."""

from __future__ import annotations

import json
from typing import Literal

from cluster.store.records import damaged, run_path
from cluster.store.storage import Store
from training.data.example import Example

Side = Literal["train", "holdout"]


def write_examples(store: Store, run_id: str, side: Side, examples: list[Example]) -> None:
    """Raises ConflictError where they were written before."""
    lines = "".join(json.dumps(example.to_json(), ensure_ascii=False) + "\n" for example in examples)
    store.create(_path(run_id, side), lines.encode())


def read_examples(store: Store, run_id: str, side: Side) -> list[Example]:
    """One side of the data of a run, in the order it was written. Raises StoreError where it is damaged."""
    path = _path(run_id, side)
    return _parse(store, path, store.read(path))


def read_examples_if_there(store: Store, run_id: str, side: Side) -> list[Example]:
    """Like `read_examples`; no rows where the store has none."""
    path = _path(run_id, side)
    return _parse(store, path, store.read_if_there(path) or b"")


def _parse(store: Store, path: str, content: bytes) -> list[Example]:
    try:
        return [Example.from_json(json.loads(line)) for line in content.decode().split("\n") if line]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise damaged(store, path, f"{type(error).__name__}: {error}") from error


def _path(run_id: str, side: Side) -> str:
    return run_path(run_id, f"data/{side}.jsonl")
