"""The curated rows of a run in the store: written once by the driver, read by every worker."""

from __future__ import annotations

import json
from typing import Literal

from cluster.store.storage import Store
from training.data.example import Example

Side = Literal["train", "holdout"]


def write_examples(store: Store, run_id: str, side: Side, examples: list[Example]) -> None:
    """Write one side of the data as JSON lines.

    Raises:
        ConflictError: it was written before.
    """
    lines = "".join(json.dumps(example.to_json(), ensure_ascii=False) + "\n" for example in examples)
    store.create(rows_path(run_id, side), lines.encode())


def read_examples(store: Store, run_id: str, side: Side) -> list[Example]:
    """Read one side of the data of a run, in the order it was written."""
    text = store.read(rows_path(run_id, side)).decode()
    return [Example.from_json(json.loads(line)) for line in text.split("\n") if line]


def rows_path(run_id: str, side: Side) -> str:
    """Where one side of the data lies in the store."""
    return f"runs/{run_id}/data/{side}.jsonl"
