"""The tables of `guitarfish plan`: what fits, why the rest does not, and the terms behind one row."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

from guitarfish.show.rendering import dollars, duration, print_facts, print_table, say, size
from training.planning.memory import Phase
from training.planning.planner import Plan, Row, best_of, explained
from training.planning.sites import GIB


def show_plan(plan: Plan, *, every: bool) -> None:
    """Print what each hardware and strategy needs.

    Args:
        every: all strategies on all hardware; else all on this machine, and the best on each other.
    """
    print_facts(
        {
            "run": f"{plan.run}: {plan.method}, sequences of up to {plan.sequence} tokens",
            "model": f"{plan.model}: {_count(plan.parameters)} parameters, {_count(plan.trained)} trained",
            "data": plan.workload,
        }
    )
    rows: list[Row] = []
    for _, group in groupby(plan.rows, key=lambda row: row.hardware):
        found = list(group)
        rows += found if every or found[0].here else [best_of(found)]
    headings = ["hardware", "strategy", "GiB a card", "host GiB", "time", "cost", "fits"]
    say("")
    print_table(headings, _cells(rows), right="time cost")
    too_large = [row for row in rows if not row.fits]
    _show_reasons([row for row in too_large if every or row.here])
    _show_fixes([row for row in too_large if row.fix and not (every or row.here)])
    _show_cheapest(plan)
    _show_notes(plan)


def _cells(rows: Iterable[Row]) -> list[list[str]]:
    cells, before = [], ""
    for row in rows:
        place = row.hardware.partition(",")[0]
        card = f"{row.card_bytes / GIB:.1f} of {row.card_limit / GIB:.0f}" if row.cards else "-"
        host = f"{row.host_bytes / GIB:.0f}" + (f" of {row.host_limit / GIB:.0f}" if row.host_limit else "")
        fits = "tight" if row.tight else "yes" if row.fits else "no"
        cells.append(
            ["" if place == before else place, row.name, card, host, _hours(row.hours), dollars(row.usd), fits]
        )
        before = place
    return cells


def _hours(hours: float | None) -> str:
    """`4 min`, `2.5 h`, `31 h`: an estimate needs only two digits."""
    if hours is None:
        return "-"
    if hours < 1:
        return f"{max(1, round(hours * 60))} min"
    return f"{hours:.1f} h" if hours < 10 else f"{hours:,.0f} h"


def _show_reasons(rows: list[Row]) -> None:
    if not rows:
        return
    say("")
    say("why not")
    for row in rows:
        say(f"  {row.hardware.partition(',')[0]}, {row.name}: {row.why_not} {row.fix}".rstrip())


def _show_fixes(rows: list[Row]) -> None:
    """The hardware on which the run would fit with other settings, grouped by the settings."""
    hardware: dict[str, list[str]] = {}
    for row in rows:
        hardware.setdefault(row.fix.removesuffix("."), []).append(f"{row.hardware} ({row.name})")
    for fix, names in hardware.items():
        say("")
        say(f"{fix} to fit on {', '.join(names)}")


def _show_cheapest(plan: Plan) -> None:
    fitting = [row for row in plan.rows if row.fits and row.usd is not None and row.offered]
    low, high = plan.hours_range
    say("")
    if fitting:
        row = min(fitting, key=lambda row: row.usd or 0.0)
        hours = row.hours or 0.0
        say(
            f"cheapest that fits: {row.hardware}, {row.name}: {dollars(row.usd)}, {_hours(hours)} "
            f"({_hours(low * hours)} to {_hours(high * hours)})"
        )
        say(f"  {row.price_source}, {plan.prices_of}")
        if plan.budget_usd is not None:
            _show_budget(plan.budget_usd, row, fitting, low, high)
    elif not any(row.fits for row in plan.rows):
        say("nothing fits; --explain shows what takes the memory")
    if all(row.hours is None for row in plan.rows):
        say("hours and dollars need the number of rows: --rows N, or training.max_steps")


def _show_budget(budget_usd: float, cheapest: Row, fitting: list[Row], low: float, high: float) -> None:
    """The budget against the cheapest hardware, and against this machine, where `guitarfish train` checks it."""
    here = [row for row in fitting if row.here]
    rows = [cheapest]
    if here and not cheapest.here:
        rows.append(best_of(here))
    for row in rows:
        usd = row.usd or 0.0
        verdict = "perhaps not enough"
        if high * usd <= budget_usd:
            verdict = "enough"
        elif low * usd > budget_usd:
            verdict = "not enough"
        place = row.hardware.partition(",")[0]
        estimate = f"{dollars(usd)} ({dollars(low * usd)} to {dollars(high * usd)})"
        say(f"budget.max_usd: {dollars(budget_usd)} is {verdict} on {place}, estimate {estimate}")


def _show_notes(plan: Plan) -> None:
    low, high = plan.hours_range
    notes = [*plan.notes, f"times are estimates: the run may take {low} to {high} times as long"]
    if any(row.host_limit is None for row in plan.rows):
        notes.append("host GiB is what the machine needs; pass what it has with --host-memory GIB")
    for note in notes:
        say(f"note: {note}")


def show_terms(plan: Plan) -> None:
    """Print the terms of one row: the strategy that would be used on the first hardware, or is closest to fitting."""
    row = explained(plan)
    say("")
    say(f"{row.hardware}, {row.name}" + ("" if row.fits else f" (does not fit: {row.why_not})"))
    for phase in row.phases:
        _show_phase(phase)
    if row.time:
        say("")
        cells = [(term.name, duration(term.seconds), term.why) for term in row.time]
        print_table(["time", "", "from"], [*cells, ("total", duration(sum(term.seconds for term in row.time)), "")])


def _show_phase(phase: Phase) -> None:
    """One phase: what is on the fullest card, if there is one, and what is in main memory for all workers."""
    say("")
    rows: list[tuple[str, str | None, str | None, str]]
    rows = [(term.name, size(term.bytes), None, term.why) for term in phase.card]
    rows += [(term.name, None, size(term.bytes), term.why) for term in phase.host]
    peaks = (size(phase.card_bytes) if phase.card else None, size(phase.host_bytes))
    print_table([phase.name, "card", "host", "from"], [*rows, ("peak", *peaks, "")], right="card host")


def _count(number: int) -> str:
    return f"{number / 1e9:.2f} B" if number >= 1e9 else f"{number / 1e6:.1f} M"
