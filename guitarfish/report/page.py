"""The report as one HTML file that loads nothing: every text is escaped, control characters are made visible."""

from __future__ import annotations

import base64
import hashlib
import re
from datetime import datetime
from functools import cache
from importlib.metadata import version
from importlib.resources import files

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from cluster.billing.ledger import Attempt, by_phase
from cluster.store.records import run_path
from guitarfish.report import charts
from guitarfish.report.answers import answers
from guitarfish.report.figures import loss_chart, rate_chart, score_charts, trial_chart
from guitarfish.report.gather import ReportData
from guitarfish.report.headline import dollars_and_seconds, gate_score, headline
from guitarfish.show.rendering import Cell, Column, Table, dollars, duration
from guitarfish.show.tables import (
    ScoreRow,
    attempt_table,
    count,
    funnel_table,
    measured_trial_table,
    phase_table,
    plan_table,
    score_rows,
    score_table,
    trial_table,
    untuned_score_rows,
)
from training.planning.prediction import Compared

GENERATOR = "guitarfish report"
"""Begins the `generator` of every report: tells one from another program's file."""
_STYLE = "style.css.j2"
_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\ufffe\uffff\ud800-\udfff]"
)


def visible(text: str) -> str:
    """The text with control characters, those that change the writing direction too, written out as `⟨U+202E⟩`."""
    return _CONTROL.sub(lambda match: f"⟨U+{ord(match[0]):04X}⟩", text.replace("\r\n", "\n"))


def render(data: ReportData) -> str:
    """The report of a run. Pure: the same data give the same page."""
    before = data.spec.lora.start_from or "base"
    rows = _scores(data)
    phases = by_phase([*data.attempts, *data.trial_attempts])
    usd, seconds = dollars_and_seconds(data)
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            data=data,
            generator=f"{GENERATOR} {version('guitarfish')}",
            style_hash=_style()[1],
            about=_about(data),
            headline=headline(data),
            gate=gate_score(data),
            score_rows=rows,
            scores=score_table(rows, before),
            score_charts=score_charts(rows, before),
            trials=trial_table(data.search) if data.search else None,
            measured_trials=measured_trial_table(data.search) if data.search else None,
            trial_chart=trial_chart(data),
            answers=answers(data),
            loss_chart=loss_chart(data),
            rate_chart=rate_chart(data),
            checkpoints=_checkpoints(data),
            funnel=funnel_table(data.data.funnel if data.data else ()),
            phases=phase_table({one.phase: one.seconds for one in phases}, {one.phase: one.usd for one in phases}),
            attempts=attempt_table(data.attempts),
            usd=usd,
            seconds=seconds,
            lost=_lost_to_failures(data.attempts) if data.kind != "search" else (0.0, 0.0),
            plan=plan_table("figure", _planned(data)),
            spec=yaml.safe_dump(data.spec.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=100),
            places=_places(data),
        )
    )


def _scores(data: ReportData) -> list[ScoreRow]:
    if data.result is not None:
        return score_rows(data.result)
    return untuned_score_rows(data.before, data.spec.gate.metric, data.spec.seed) if data.before is not None else []


def _checkpoints(data: ReportData) -> Table:
    best = data.training.best_step if data.training else None
    losses = data.log.holdout if data.log else ()
    rows = [[f"{step}{' (taken)' if step == best else ''}", f"{loss:.4f}"] for step, loss in losses]
    return Table([Column("step", "number"), Column("hold-out loss", "number")], rows)


def _lost_to_failures(attempts: tuple[Attempt, ...]) -> tuple[float, float]:
    """Seconds and dollars that failures cost: starting again, and steps done again."""
    lost = [
        (one.seconds.get("recomputed", 0.0) + (one.seconds.get("starting", 0.0) if place else 0.0), one)
        for place, one in enumerate(attempts)
    ]
    usd = sum(seconds / 3600 * one.start.price_usd_per_hour for seconds, one in lost)
    return sum(seconds for seconds, _ in lost), usd


def _planned(data: ReportData) -> tuple[Compared, ...]:
    """The plan beside the run; without a receipt the plan alone; empty where nothing was planned."""
    if data.receipt is not None and data.receipt.plan is not None:
        return data.receipt.plan.figures
    if data.prediction is None:
        return ()
    row = data.prediction.row
    return (
        Compared(name="memory of a worker", unit="bytes", predicted=row.worker_bytes, actual=None),
        Compared(name="training", unit="seconds", predicted=row.training_seconds, actual=None),
        Compared(name="whole run", unit="seconds", predicted=row.hours and row.hours * 3600, actual=None),
        Compared(name="cost", unit="USD", predicted=row.usd, actual=None),
    )


def _about(data: ReportData) -> str:
    source = data.spec.model.source
    model = source.id if source.kind == "hub" else source.path.rstrip("/").rpartition("/")[2]
    method = f"{data.spec.method.kind.upper()} of {model}"
    return {
        "train": method,
        "evaluate": f"evaluation of {model}",
        "pairs": f"answers drawn from {model}",
        "search": f"search over LoRA ranks and learning rates, {method}",
        "trial": f"trial of a search, {method}",
    }[data.kind]


def _places(data: ReportData) -> dict[str, str]:
    """Where the parts of the run are, by name."""
    places = {"store": data.store_uri, "run": f"{data.store_uri}/{run_path(data.run_id)}"}
    if data.training is not None:
        places["adapter"] = f"{data.store_uri}/{data.training.best_checkpoint}"
    if data.publication is not None:
        places["published"] = f"{data.store_uri}/{data.publication.path}"
    return (data.receipt.places if data.receipt else {}) | places  # the store may have moved


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("guitarfish.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: value if isinstance(value, Markup) else visible(str(value)),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"dollars": dollars, "duration": duration, "moment": moment, "signed": signed, "cell": cell}
    environment.globals |= {"style": Markup(_style()[0]), "size": charts, "count": count}
    return environment


@cache
def _style() -> tuple[str, str]:
    """The style sheet, and the hash by which the page's own policy allows it, and no other."""
    text = files("guitarfish.report").joinpath(_STYLE).read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return text, f"sha256-{digest}"


def moment(at: datetime) -> str:
    """A time as `2026-11-24 06:07 UTC`."""
    return f"{at:%Y-%m-%d %H:%M} UTC"


def signed(value: float) -> str:
    """A number with its sign, three decimals."""
    return f"{value:+.3f}"


def cell(value: Cell | str | None) -> Cell:
    """A cell of a table, whichever way it was written."""
    return value if isinstance(value, Cell) else Cell("–" if value is None else value)
