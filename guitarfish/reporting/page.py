"""The report as one HTML file that loads nothing: every text is escaped, control characters are made visible."""

from __future__ import annotations

import base64
import hashlib
import re
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Any

from guitarfish.rendering import dollars, duration
from guitarfish.reporting.answers import answers
from guitarfish.reporting.figures import loss_chart, rate_chart, score_charts, trial_chart
from guitarfish.reporting.gather import ReportData
from guitarfish.reporting.headline import dollars_and_seconds, gate_score, headline
from guitarfish.reporting.tables import (
    attempt_rows,
    funnel_bars,
    lost_to_failures,
    phase_bars,
    plan_rows,
    score_rows,
)

if TYPE_CHECKING:
    from jinja2 import Environment, Template

GENERATOR = "guitarfish report"
"""Begins the `generator` of every report: what tells one from somebody else's file."""
_STYLE = "style.css.j2"
_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\ufffe\uffff\ud800-\udfff]"
)


def visible(text: str) -> str:
    """The text with what HTML forbids, and what turns the direction of the page, written out as `⟨U+202E⟩`."""
    return _CONTROL.sub(lambda match: f"⟨U+{ord(match[0]):04X}⟩", text.replace("\r\n", "\n"))


def render(data: ReportData) -> str:
    """The report of a run. Pure: the same data give the same page."""
    return _template().render(_context(data))


def _context(data: ReportData) -> dict[str, Any]:
    rows = score_rows(data)
    attempts = [*data.attempts, *data.trial_attempts]
    usd, seconds = dollars_and_seconds(data)
    lost_s, lost_usd = lost_to_failures(data.attempts) if data.kind != "search" else (0.0, 0.0)
    before = data.spec.lora.start_from or "base"
    return {
        "data": data,
        "generator": f"{GENERATOR} {_version()}",
        "style_hash": _style()[1],
        "about": _about(data),
        "headline": headline(data),
        "gate": gate_score(data),
        "before_name": before,
        "score_rows": rows,
        "score_charts": score_charts(rows, before),
        "trial_chart": trial_chart(data),
        "answers": answers(data),
        "loss_chart": loss_chart(data),
        "rate_chart": rate_chart(data),
        "funnel": funnel_bars(data),
        "phases": phase_bars(attempts),
        "attempts": attempt_rows(data.attempts),
        "usd": usd,
        "seconds": seconds,
        "lost": (lost_s, lost_usd),
        "plan": plan_rows(data),
        "spec": _spec_yaml(data),
        "places": _places(data),
    }


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


def _spec_yaml(data: ReportData) -> str:
    import yaml

    return str(yaml.safe_dump(data.spec.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=100))


def _places(data: ReportData) -> dict[str, str]:
    """Where things lie, by name."""
    places = {"store": data.store_uri, "run": f"{data.store_uri}/runs/{data.run_id}"}
    if data.training is not None:
        places["adapter"] = f"{data.store_uri}/{data.training.best_checkpoint}"
    if data.publication is not None:
        places["published"] = f"{data.store_uri}/{data.publication.path}"
    return (data.receipt.places if data.receipt else {}) | places  # the store may have moved since


def _version() -> str:
    from importlib.metadata import version

    return version("guitarfish")


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    def plain(value: Any) -> Any:
        return value if isinstance(value, Markup) else visible(str(value))

    environment = Environment(
        loader=PackageLoader("guitarfish.reporting", "."),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=plain,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"dollars": dollars, "duration": duration, "moment": moment, "signed": signed}
    environment.globals["style"] = Markup(_style()[0])
    return environment


@cache
def _template() -> Template:
    return _environment().get_template("report.html.j2")


@cache
def _style() -> tuple[str, str]:
    """The style sheet, and the hash by which the page's own policy lets it in, and no other."""
    from importlib.resources import files

    text = files("guitarfish.reporting").joinpath(_STYLE).read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return text, f"sha256-{digest}"


def moment(at: datetime) -> str:
    """A time as `2026-11-24 06:07 UTC`."""
    return f"{at:%Y-%m-%d %H:%M} UTC"


def signed(value: float) -> str:
    """A number with its sign, three decimals."""
    return f"{value:+.3f}"
