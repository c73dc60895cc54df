"""Which budget holds for a run, when it is spent, and what the user reads then."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from cluster.billing.ledger import Ledger
from cluster.billing.prices import Price
from cluster.machine.hardware import detect
from cluster.store.storage import open_store
from runspec.budget import BudgetSpec
from runspec.errors import BudgetError, UserError
from training.run.budget import (
    UNLIMITED,
    Budget,
    budget_of,
    check_left,
    check_plan,
    check_price,
    over_budget,
    rounded,
    spent_out,
)
from training.run.driver import Stop, _outcome
from training.run.recorder import Recorder
from training.worker.failures import stopped
from training.worker.job import Event

PRICE = Price(usd_per_hour=3.6, source="run file", date=date(2026, 11, 24))


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(open_store(str(tmp_path)), "r")


@pytest.mark.parametrize(
    ("spent", "budget", "over"), [(0.0, None, False), (9.9, 10.0, False), (10.0, 10.0, True), (11.0, 10.0, True)]
)
def test_a_budget_is_spent_when_it_is_reached(spent: float, budget: float | None, over: bool) -> None:
    assert spent_out(spent, budget) is over


def test_the_last_budget_that_was_asked_for_holds(ledger: Ledger) -> None:
    written = BudgetSpec(max_usd=2.0)
    assert budget_of(None, []) == UNLIMITED
    assert budget_of(written, []) == Budget(2.0, 0.0)
    for asked in (None, 5.0, 3.0):  # an attempt of before there were budgets, one with more, one with less again
        writer = ledger.start(detect(), workers=1, price=PRICE, budget_usd=asked)
        writer.end("failed", reason="x", step=1, tokens=1, seconds={"training": 100})
    assert budget_of(written, ledger.attempts()) == Budget(3.0, pytest.approx(0.3))
    assert budget_of(None, ledger.attempts()).limit_usd == 3.0
    assert budget_of(written, ledger.attempts(), 9.0).limit_usd == 9.0


def test_attempts_from_before_there_were_budgets_are_read(ledger: Ledger, tmp_path: Path) -> None:
    ledger.start(detect(), workers=1, price=PRICE)
    event = tmp_path / "runs/r/attempts/1/0.json"
    event.write_text(event.read_text().replace(' "budget_usd": null,\n', ""))
    assert "budget" not in event.read_text()
    (attempt,) = ledger.attempts()
    assert attempt.start.budget_usd is None


def test_lost_workers_are_paid_from_the_same_budget(ledger: Ledger) -> None:
    clock, told = Clock(), list[Event]()
    recorder = Recorder(lambda: ledger.start(detect(), workers=1, price=PRICE), clock)
    stop = Stop(tell=told.append)
    budget = Budget(limit_usd=0.3, earlier_usd=0.1)
    for seconds, asked in ((100, False), (90, False), (10, True)):  # a tenth of a cent a second
        clock.now += seconds
        recorder.handle(Event("group_started", phase="starting"))
        if budget.reached(recorder.usd):
            stop.spent()
        assert stop.requested is asked
    stop.spent()
    assert [event.text for event in told] == ["the budget is spent: stopping after this step, with a checkpoint"]
    assert len(ledger.attempts()) == 3


def test_how_an_attempt_ended_is_told_apart() -> None:
    assert _outcome(stopped("r"), Stop(over_budget=True))[0] == "over_budget"
    assert _outcome(stopped("r"), Stop(by_user=True))[0] == "interrupted"
    assert _outcome(KeyboardInterrupt(), Stop(over_budget=True))[0] == "interrupted"
    assert _outcome(ValueError("x"), Stop(over_budget=True))[0] == "failed"


def test_the_first_ctrl_c_after_a_spent_budget_does_not_kill() -> None:
    stop = Stop()
    stop.spent()
    stop(2, None)
    with pytest.raises(KeyboardInterrupt):
        stop(2, None)
    assert stop.over_budget


def test_what_is_said_leads_on() -> None:
    error = over_budget("run-1", Budget(0.5, 0.3), 0.2123, 40)
    assert (error.exit_code, error.where) == (4, "budget.max_usd")
    assert error.what == "The budget of $0.5 is spent: $0.5123 so far; the checkpoint of step 40 is kept."
    assert error.fix == "Continue with more: guitarfish train --resume run-1 --budget 1.1"
    assert "what was finished is kept" in over_budget("run-1", Budget(0.5), 0.6, None).what


def test_an_attempt_needs_something_left() -> None:
    check_left(UNLIMITED, "r")
    check_left(Budget(1.0, 0.99), "r")
    with pytest.raises(BudgetError, match=r"(?s)\$1 is spent: \$1\.0000.*--resume r --budget 2\.0"):
        check_left(Budget(1.0, 1.0), "r")


def test_without_a_price_no_budget_can_be_reached() -> None:
    free = Price(usd_per_hour=0, source="no price known for NVIDIA X", date=date(2026, 11, 24))
    check_price(UNLIMITED, free)
    check_price(Budget(1.0), PRICE)
    with pytest.raises(UserError, match=r"(?s)counts as \$0.*NVIDIA X.*hardware.price_usd_per_hour"):
        check_price(Budget(1.0), free)


def test_the_plan_is_compared_with_the_budget() -> None:
    assert check_plan(UNLIMITED, 10.0, 0.6, 1.8) == ""
    assert check_plan(Budget(1.0), 1.0, 0.6, 1.8) == ""
    assert "$1.5000 ($0.9000 to $2.7000), the budget $1:" in check_plan(Budget(1.0), 1.5, 0.6, 1.8)
    with pytest.raises(BudgetError, match=r"(?s)\$2\.0000 \(\$1\.2000 to \$3\.6000\).*--budget 3\.6 "):
        check_plan(Budget(1.0), 2.0, 0.6, 1.8)


@pytest.mark.parametrize(
    ("usd", "text"),
    [(0.000123, "0.00013"), (0.501, "0.51"), (1.0, "1.0"), (9.91, "10.0"), (123.0, "130"), (2e6, "2000000")],
)
def test_amounts_are_rounded_up_as_people_type_them(usd: float, text: str) -> None:
    assert rounded(usd) == text
    assert float(rounded(usd)) >= usd
