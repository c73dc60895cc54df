"""Runs in the store of one test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.stored_runs import ROWS, StoredRun

from cluster.store.storage import open_store


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., StoredRun]:
    """Makes a run in the store of this test; `make(gate__min_gain=0.9)` sets keys of the run file."""

    def make(run_id: str = "homes-20261124-120000-abcd", rows: Any = None, **values: Any) -> StoredRun:
        store = open_store(str(tmp_path / "store"))
        return StoredRun(store, tmp_path, run_id, values, list(ROWS) if rows is None else rows)

    return make
