"""`guitarfish runs` on a real ledger in a folder."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pytest

from cluster.billing.ledger import Ledger
from cluster.billing.prices import Price
from cluster.machine.hardware import detect
from cluster.store.storage import open_store
from guitarfish.__main__ import run

RUN = "homes-20261123-120000-abcd"


@pytest.fixture
def store(tmp_path: Path) -> str:
    """A store with one unfinished run: one attempt failed, one was lost."""
    uri = str(tmp_path / "store")
    store = open_store(uri)
    store.create(f"runs/{RUN}/spec.json", b'{"name": "homes", "labels": {"team": "search"}}')
    ledger = Ledger(store, RUN)
    price = Price(usd_per_hour=3.6, source="run file", date=date(2026, 11, 23))
    first = ledger.start(detect(), workers=2, price=price)
    first.end("failed", reason="out of memory", step=10, tokens=500, recomputed_steps=0, seconds={"training": 100.0})
    second = ledger.start(detect(), workers=2, price=price)
    second.progress(step=20, tokens=500, seconds={"training": 50.0})
    return uri


def test_list(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["runs", "list", "--store", store, "--json"]) == 0
    (listed,) = json.loads(capsys.readouterr().out)
    assert (listed["run_id"], listed["state"], listed["step"], listed["published"]) == (RUN, "running", 20, False)
    assert listed["cost_usd"] == pytest.approx(0.15)
    assert run(["runs", "list", "--store", store]) == 0
    assert RUN in "".join(capsys.readouterr().out.split())


def test_show_unfinished(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["runs", "show", "homes", "--store", store]) == 0
    out = capsys.readouterr().out
    assert "out of memory" in out
    assert "lost" in out
    assert "$0.15" in out
    assert f"guitarfish train --resume {RUN}" in out


def test_show_json(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["runs", "show", RUN, "--store", store, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["cost_usd"] == pytest.approx(0.15)
    assert [attempt["outcome"] for attempt in shown["attempts"]] == ["failed", "lost"]
    assert shown["receipt"] is None
    assert shown["labels"] == {"team": "search"}


def test_unknown_run(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["runs", "show", "hones", "--store", store]) == 2
    assert RUN in capsys.readouterr().err
