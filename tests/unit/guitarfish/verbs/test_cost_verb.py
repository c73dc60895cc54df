"""`guitarfish cost`: its tables, JSON and CSV over a store with real ledgers."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cluster.billing.ledger import Ledger, Phase
from cluster.billing.prices import Price
from cluster.billing.usage import ModelCounts, UsageRecord, write_usage
from cluster.machine.hardware import detect
from cluster.store.storage import open_store
from guitarfish.__main__ import run
from guitarfish.verbs.cost import print_csv

HOME, ADS = "home-20261123-120000-abcd", "ads-20261124-120000-ef01"
SECONDS: dict[Phase, float] = {"starting": 10, "training": 90}


@pytest.fixture
def store(tmp_path: Path) -> str:
    """Two runs: one failed and then finished, for $0.20; one finished, for $0.10."""
    uri = str(tmp_path / "store")
    store = open_store(uri)
    price = Price(usd_per_hour=3.6, source="run file", date=date(2026, 11, 23))
    for run_id, labels, outcomes in ((HOME, {"team": "search"}, ("failed", "finished")), (ADS, {}, ("finished",))):
        spec = {"name": run_id.partition("-")[0], "labels": labels}
        store.create(f"runs/{run_id}/spec.json", json.dumps(spec).encode())
        for outcome in outcomes:
            writer = Ledger(store, run_id).start(detect(), workers=1, price=price, budget_usd=0.5)
            writer.end(outcome, reason="x", step=9, tokens=1000, seconds=SECONDS)  # type: ignore[arg-type]
    return uri


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    code = run(["cost", *arguments])
    out, err = capsys.readouterr()
    assert code == 0, err
    return str(out)


def as_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    return json.loads(printed(capsys, *arguments, "--json"))


def as_csv(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(printed(capsys, *arguments, "--csv"))))


def test_a_run(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    out = printed(capsys, "home", "--store", store)
    assert f"{HOME}: $0.2000 in 2 attempts, $100.00 per 1M trained tokens" in out
    assert "$0.1000 (50 %) in attempts that failed or were lost" in out
    assert "at $3.60 an hour: run file, 2026-11-23" in out
    assert "training 3 min 0 s $0.1800 90 %" in " ".join(out.split())
    shown = as_json(capsys, HOME, "--store", store)
    assert shown["total"]["usd"] == pytest.approx(0.2)
    assert shown["labels"] == {"team": "search"}
    assert [(one["outcome"], one["budget_usd"]) for one in shown["attempts"]] == [("failed", 0.5), ("finished", 0.5)]
    rows = as_csv(capsys, HOME, "--store", store)
    assert [row["outcome"] for row in rows] == ["failed", "finished"]
    assert sum(float(row["usd"]) for row in rows) == pytest.approx(0.2)
    assert (rows[0]["seconds_training"], rows[0]["seconds_queued"]) == ("90.0", "0.0")


def test_the_shares_of_phases_are_of_dollars(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two attempts at different prices: what took longest is not what cost most."""
    opened = open_store(str(tmp_path))
    opened.create(f"runs/{HOME}/spec.json", b'{"name": "home"}')
    phases: tuple[tuple[Phase, float, float], ...] = (("starting", 300, 1.2), ("training", 100, 10.8))
    for phase, seconds, usd_per_hour in phases:
        price = Price(usd_per_hour=usd_per_hour, source="run file", date=date(2026, 11, 23))
        writer = Ledger(opened, HOME).start(detect(), workers=1, price=price)
        writer.end("finished", reason="", step=1, tokens=1, seconds={phase: seconds})
    out = " ".join(printed(capsys, HOME, "--store", str(tmp_path)).split())
    assert "phase time cost share training 1 min 40 s $0.3000 75 % starting 5 min 0 s $0.1000 25 %" in out


def test_all_runs(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    out = printed(capsys, "--store", store)
    assert out.index(ADS) < out.index(HOME)  # the newest first
    assert "2 runs: $0.3000 in 3 attempts" in out
    shown = as_json(capsys, "--store", store)
    assert [one["run_id"] for one in shown["runs"]] == [ADS, HOME]
    assert (shown["total"]["attempts"], shown["left_out"]) == (3, {})
    rows = as_csv(capsys, "--store", store)
    assert [(row["name"], row["label:team"], float(row["usd"])) for row in rows] == [
        ("ads", "", pytest.approx(0.1)),
        ("home", "search", pytest.approx(0.2)),
    ]


def test_by_label_and_with_label(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    out = printed(capsys, "--by", "team", "--store", store)
    assert [line.split()[0] for line in out.splitlines()[:3]] == ["team", "search", "-"]
    assert [row["team"] for row in as_csv(capsys, "--by", "team", "--store", store)] == ["search", ""]
    assert as_json(capsys, "--by", "name", "--store", store)["groups"][0]["value"] == "home"
    assert len(as_json(capsys, "--by", "user", "--store", store)["groups"]) == 1
    found = as_json(capsys, "--label", "team=search", "--store", store)
    assert [one["run_id"] for one in found["runs"]] == [HOME]
    assert found["total"]["failed_usd"] == pytest.approx(0.1)


def test_days(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    today = datetime.now(UTC).date()
    assert len(as_json(capsys, "--since", str(today - timedelta(1)), "--store", store)["runs"]) == 2
    assert as_json(capsys, "--until", "2026-01-01", "--store", store)["runs"] == []


def test_a_label_that_nobody_has_now_costs_nothing(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["cost", "--label", "team=nobody", "--store", store]) == 0
    assert "no runs match" in capsys.readouterr().err


def test_a_store_without_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["cost", "--by", "team", "--store", str(tmp_path)]) == 0
    assert "has no runs" in capsys.readouterr().err


def test_a_damaged_run_is_named_and_left_out(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path(store, "runs", HOME, "attempts/1/0.json").write_text("{")
    assert run(["cost", "--json", "--store", store]) == 0
    out, err = capsys.readouterr()
    shown = json.loads(out)
    assert [one["run_id"] for one in shown["runs"]] == [ADS]
    assert [path.endswith(f"{HOME}/attempts/1/0.json") for path in shown["left_out"]] == [True]
    assert f"warning: left out: The record runs/{HOME}/attempts/1/0.json is damaged" in err
    assert run(["cost", HOME, "--store", store]) == 2
    assert "damaged" in capsys.readouterr().err


def test_a_search_shows_its_trials(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    opened, search = open_store(store), "s-tune-20261124-130000-0123"
    price = Price(usd_per_hour=3.6, source="run file", date=date(2026, 11, 23))
    opened.create(f"runs/{search}/search.json", b"{}")
    for run_id in (search, f"{search}-t00", f"{search}-t01"):
        opened.create(f"runs/{run_id}/spec.json", b'{"name": "s"}')
        Ledger(opened, run_id).start(detect(), workers=1, price=price).end(
            "finished", step=1, tokens=1, seconds=SECONDS
        )
    assert as_json(capsys, search, "--store", store)["total"]["usd"] == pytest.approx(0.3)
    assert as_json(capsys, f"{search}-t01", "--store", store)["total"]["usd"] == pytest.approx(0.1)
    assert f"{search}-t00" in printed(capsys, search, "--store", store)


def test_serving(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    began = datetime(2026, 11, 24, 12, tzinfo=UTC)
    counts = ModelCounts(
        model="home@3",
        key=None,
        requests=4,
        failed=0,
        refused=0,
        prompt_tokens=300,
        completion_tokens=100,
        seconds_to_first_token=1,
        seconds=8,
    )
    record = UsageRecord(
        server="s",
        seq=0,
        host="h",
        user="u",
        base_model="base",
        base_digest="d",
        price_usd_per_hour=3.6,
        price_source="run file",
        price_date=date(2026, 11, 24),
        started_at=began,
        ended_at=began + timedelta(seconds=100),
        replica_seconds=100,
        busy_replica_seconds=20,
        models=(counts,),
    )
    write_usage(open_store(store), record)
    out = printed(capsys, "--serving", "--store", store)
    assert "home@3" in out
    assert "serving cost $0.1000" in out
    shown = as_json(capsys, "--serving", "--store", store)
    assert shown["total_usd"] == pytest.approx(0.1)
    assert shown["models"][0]["usd_per_million_tokens"] == pytest.approx(50)
    assert [row["model"] for row in as_csv(capsys, "--serving", "--store", store)] == ["home@3", "(idle)"]
    assert as_json(capsys, "--serving", "--since", "2026-11-25", "--store", store)["models"] == []


def test_no_cell_is_a_formula(capsys: pytest.CaptureFixture[str]) -> None:
    print_csv(["=a", "b"], [["=1+1", -1.5], ["+x", None], ["-x", 0], ["@x", "plain, with a comma"], ["\tx", '"']])
    assert list(csv.reader(io.StringIO(capsys.readouterr().out))) == [
        ["'=a", "b"],
        ["'=1+1", "-1.5"],
        ["'+x", ""],
        ["'-x", "0"],
        ["'@x", "plain, with a comma"],
        ["'\tx", '"'],
    ]
