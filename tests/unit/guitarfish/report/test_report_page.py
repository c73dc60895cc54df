"""What a report says of runs at every stage, and that nothing a model or a data set wrote gets out of its place."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
from support.report_pages import Page
from support.stored_runs import CHECKPOINT, StoredRun, losses, right, wrong

from guitarfish.report.answers import LONG, SHORT
from guitarfish.report.gather import gather
from guitarfish.report.page import render
from training.data.example import Example

Make = Callable[..., StoredRun]


def page_of(run: StoredRun) -> Page:
    page = Page(render(gather(run.store, run.run_id)))
    assert page.dangers() == []
    assert not re.search(r"\bNone\b|\bnan\b|Undefined", page.text.replace("None.", "")), page.text
    return page


def test_a_published_run_has_it_all(make: Make) -> None:
    page = page_of(make().whole())
    assert "Published as homes@3. homes@prod points to it." in page.text
    assert "✓ published" in page.text
    assert "0.000 → 1.000" in page.text
    assert "Scores, 0 to 1" in page.section("scores")
    assert "lower is better" in page.section("scores")
    assert "Mean KL divergence from the base model 0.2000" in page.section("scores")
    assert "taken: step 30" in page.section("curves")
    assert "hold-out loss, at checkpoints" in page.section("curves")
    assert "Learning rate by step" in page.section("curves")
    assert "held out" in page.section("data")
    assert "near-duplicate" in page.section("data")
    assert "Nothing was lost to failures." in page.section("cost")
    assert "$3.60 an hour (run file, 2026-11-24)" in page.section("cost")
    assert "figurepredictedactualratio" in page.section("plan")
    assert "learning_rate: 0.0002" in page.section("run")
    assert page.count("svg") >= 8


def test_it_is_a_page_that_anybody_can_read(make: Make) -> None:
    html = render(gather(make().whole().store, "homes-20261124-120000-abcd"))
    page = Page(html)
    assert ("html", {"lang": "en"}) in page.tags
    assert page.count("title") >= 1
    headings = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert headings[0] == 1
    assert headings.count(1) == 1
    assert all(deeper <= above + 1 for above, deeper in pairwise(headings))
    assert all("scope" in attributes for tag, attributes in page.tags if tag == "th")
    identities = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(identities) == len(set(identities))
    cells = [attributes for tag, attributes in page.tags if tag == "td"]
    assert all("data-label" in cell for cell in cells), "a narrow screen shows the heading beside each cell"
    for tag, attributes in page.tags:
        if tag == "svg":
            assert attributes.get("aria-hidden") == "true" or attributes.get("role") == "img"
            assert all(name in identities for name in attributes.get("aria-labelledby", "").split())
        if tag == "a":
            assert attributes["href"].removeprefix("#") in identities


def test_its_policy_lets_in_its_own_style_and_nothing_else(make: Make) -> None:
    html = render(gather(make().whole().store, "homes-20261124-120000-abcd"))
    style = re.search("<style>(.*?)</style>", html, re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    policy = next(a["content"] for tag, a in Page(html).tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    assert "url(" not in style[1]
    assert "@import" not in style[1]


HOSTILE = [
    "</pre></article><script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "<style>*{display:none}</style><svg onload=alert(1)>",
    "{{ 7*7 }}{% raw %}{# no #}",
    "\x00\x07\x1b[31m\x7f",
    "\u202egnp.exe\u2066\u2069 שלום \u200f",
    "\ud800 half a pair",
    "w" * 5_000,
    "# heading\n\n[a link](javascript:alert(1)) **bold** `code`",
    "👩‍👩‍👧‍👦🏳️‍🌈" * 200,
    "answer " * 16_000,
    "a\r\nb\rc\u2028d]]>-->",
    "' onmouseover='alert(1)",
    "&lt;script&gt;&amp;&#0;",
]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_texts_stay_texts(make: Make, text: str) -> None:
    storable = text.replace("\ud800", "")
    rows = [{"prompt": f"{n} {storable}", "completion": f"{storable} {n}"} for n in range(40)]
    run = make(rows=rows).whole(lambda row: storable, right)
    page = page_of(run)
    assert page.count("article") == 8
    assert page.count("style") == 1
    html = render(gather(run.store, run.run_id))
    html.encode()  # no lone surrogate
    assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u202a-\u202e\u2066-\u2069]", html)
    assert "49" not in page.section("answers") or "{{ 7*7 }}" not in text


def test_half_a_surrogate_pair_and_controls_are_written_out(make: Make) -> None:
    from guitarfish.report.page import visible

    assert visible("a\x00b\ud800c\u202ed") == "a⟨U+0000⟩b⟨U+D800⟩c⟨U+202E⟩d"
    assert visible("tab\tline\nemoji 👩‍👩‍👧 עברית") == "tab\tline\nemoji 👩‍👩‍👧 עברית"


def test_long_texts_are_folded_and_cut(make: Make) -> None:
    long = "x" * (LONG + 1234)
    page = page_of(make().whole(lambda row: long, right))
    assert f"{LONG - SHORT:,} characters more, and 1,234 that only the store has" in page.text
    assert "The answer of base was cut short at evaluation.max_new_tokens." in page.text
    html = render(gather(make().store, "homes-20261124-120000-abcd"))
    assert len(html) < 8 * (LONG + 2_000) + 80_000


def test_rows_are_chosen_by_what_became_of_them(make: Make) -> None:
    def before(row) -> str:
        return row.reference if int(row.reference.split()[1]) % 3 == 0 else "no"

    def after(row) -> str:
        return row.reference if int(row.reference.split()[1]) % 2 == 0 else "still no"

    run = make().whole(before, after)
    numbers = [int(row.reference.split()[1]) for row in run.examples()]
    better = [n for n in numbers if n % 3 and not n % 2]
    worse = [n for n in numbers if not n % 3 and n % 2]
    neither = [n for n in numbers if n % 3 and n % 2]
    both = [n for n in numbers if not n % 6]
    said = page_of(run).section("answers")
    assert f"{len(better)} better, {len(worse)} worse, {len(neither)} not right, and no better" in said
    assert f"{len(both)} right before and after" in said
    shown = [int(n) for n in re.findall(r"turn on lamp number (\d+)", said)]
    assert shown == better[:8] + worse[:8] + neither[:8]
    assert "▲ better: exact_match 0 → 1" in said
    assert "▼ worse: exact_match 1 → 0" in said


def test_a_gate_that_looks_at_the_loss(make: Make) -> None:
    run = make(evaluation__scorers=[{"kind": "loss"}], gate__metric="loss")
    run.begin().attempt()
    run.measured_before(lambda row: "", None).trained().measured_after(lambda row: "").finished()
    page = page_of(run)
    assert "No answers were generated" in page.section("answers")
    assert "▲ better: loss" in page.section("answers")
    assert "; not measured" in page.section("scores")


def half(row: Example) -> str:
    """Right in every other row."""
    return row.reference if int(row.reference.split()[1]) % 2 else "no"


def test_a_gate_that_was_not_passed(make: Make) -> None:
    page = page_of(make().whole(after=wrong))
    assert "Not published: the gate was not passed, because the gain in exact_match may be chance." in page.text
    assert "✗ gate not passed" in page.text
    page = page_of(make("homes-20261124-120000-bbbb", gate__min_gain=0.5).whole(after=wrong))
    assert "because the gain in exact_match is smaller than gate.min_gain and may be chance." in page.text
    assert "is less than gate.min_gain 0.5" in page.text
    page = page_of(make("homes-20261124-120000-cccc", gate__min_gain=0.9).whole(after=half))
    assert "because the gain in exact_match is smaller than gate.min_gain." in page.text


def test_too_much_drift(make: Make) -> None:
    run = make(gate__max_drift=0.1)
    run.begin().attempt()
    page = page_of(run.measured_before().trained().measured_after(drift=0.4).finished())
    assert "because the model moved too far on general prompts" in page.text
    assert "The gate allows 0.1." in page.section("scores")


def test_tuning_that_is_not_needed(make: Make) -> None:
    run = make(gate__target=0.9)
    run.begin().attempt()
    page = page_of(run.measured_before(few_shot=right).trained().measured_after().finished())
    assert "Tuning is not needed: the untuned model with a few examples in its prompt is already" in page.text


def test_a_run_that_keeps_its_adapter(make: Make) -> None:
    page = page_of(make(publish=None).whole())
    assert "publish: null, so the adapter stays with its run" in page.text
    assert "guitarfish adapters publish --run homes-20261124-120000-abcd" in page.text


def test_a_run_that_was_not_started(make: Make) -> None:
    page = page_of(make().begin())
    assert "Nothing has been done in this run yet." in page.text
    assert "guitarfish train --resume homes-20261124-120000-abcd" in page.text
    assert "has not been measured" in page.section("scores")
    assert "The store has no checkpoint yet" in page.section("curves")
    assert "This run has no attempt yet." in page.section("cost")
    assert "nothing to compare the plan with yet" in page.section("plan")
    assert page.count("figure") == 0


def test_a_run_that_failed_in_training(make: Make) -> None:
    run = make().begin()
    run.attempt("failed", step=20)
    page = page_of(run.measured_before().trained(losses(20), ended=False))
    assert "Not finished: attempt 1 failed at step 20." in page.text
    assert "it failed" in page.text
    assert "This run has not been measured after training." in page.section("scores")
    assert "no answers to compare" in page.section("answers")
    assert "Training has not ended" in page.section("curves")
    assert "failedit failed" in page.section("cost")
    assert "counts as lost once the run is continued" in page.section("cost")
    assert "Nothing was lost" not in page.text


def test_a_run_whose_budget_is_spent(make: Make) -> None:
    run = make().begin()
    run.attempt("interrupted", step=20)
    data = replace(gather(run.store, run.run_id), state="over_budget")
    page = Page(render(data))
    assert "Not finished: attempt 1 reached the run's budget at step 20." in page.text
    assert "guitarfish train --resume homes-20261124-120000-abcd --budget USD" in page.text


def test_attempts_that_failed_are_counted(make: Make) -> None:
    run = make().begin()
    run.attempt("worker_lost", step=20, starting=100.0, training=200.0)
    run.attempt("finished", starting=100.0, recomputed=50.0, training=100.0, evaluating=50.0)
    page = page_of(run.measured_before().trained().measured_after().finished())
    assert "$0.6000 for 10 min 0 s, failed attempts included." in page.section("cost")
    assert "Of this, $0.1500 and 2 min 30 s went to failures" in page.section("cost")
    assert "worker lost" in page.section("cost")


def test_a_run_that_is_still_running(make: Make) -> None:
    run = make().begin()
    run.attempt(None, step=7)
    assert "Still running when this report was made: attempt 1, at step 7." in page_of(run).text


def test_a_run_that_was_only_measured(make: Make) -> None:
    run = make().begin(plan=False, kind="evaluate")
    run.attempt()
    page = page_of(run.measured_before(few_shot=right))
    assert "The untuned model was measured, with and without examples in its prompt" in page.text
    assert "Only the untuned model was measured." in page.section("scores")
    assert "base with examples in its prompt" in page.section("answers")
    assert "Nothing was trained in this run." in page.section("curves")
    assert "Only runs of guitarfish train are planned." in page.section("plan")
    page = page_of(run.measured_after())
    assert "Measured, not trained: the adapter passes the gate." in page.text


def test_answers_drawn_for_pairs(make: Make) -> None:
    run = make().begin(plan=False, kind="pairs")
    run.attempt()
    page = page_of(run)
    assert "Answers were drawn to make preference pairs from" in page.text
    assert "samples.json" in page.section("answers")


def test_the_kind_of_a_run_of_an_earlier_version_shows_in_what_it_left(make: Make) -> None:
    run = make().begin(plan=False, kind=None)
    run.attempt()
    page = page_of(run.measured_before().measured_after())
    assert "Measured, not trained: the adapter passes the gate." in page.text


def test_a_run_of_an_earlier_version(make: Make) -> None:
    run = make()
    run.begin(plan=False).attempt()
    path = run.folder / "store" / "runs" / run.run_id / "data"
    (path / "summary.json").write_text('{"layout": "messages", "fates": {"read": 60}, "digest": "x", "notes": []}')
    (path / "leaks.json").unlink()
    page = page_of(run.measured_before().trained().measured_after().finished())
    assert "This run was made by an earlier version, which kept no funnel." in page.section("data")
    assert "no leak certificate" in page.section("data")
    assert "This run has no plan" in page.section("plan")


def test_data_without_a_line_in_its_funnel(make: Make) -> None:
    run = make().begin()
    file = run.folder / "store" / "runs" / run.run_id / "data" / "summary.json"
    file.write_text('{"layout": "messages", "funnel": [], "digest": "x", "notes": []}')
    assert "The store has no funnel for this run." in page_of(run).section("data")


def test_rows_and_checkpoint_that_are_gone(make: Make) -> None:
    run = make().whole()
    folder = run.folder / "store" / "runs" / run.run_id
    (folder / "data" / "holdout.jsonl").unlink()
    (folder / "checkpoints" / CHECKPOINT / "trainer_state.json").unlink()
    page = page_of(run)
    assert "The prompt is not in this store." in page.section("answers")
    assert "is no longer in the store" in page.section("curves")


def test_curves_of_one_step_and_of_a_loss_that_is_nan(make: Make) -> None:
    run = make().begin()
    run.attempt()
    history = [{"step": 1, "loss": 2.0}, {"step": 2, "loss": float("nan")}, {"step": 3, "loss": float("inf")}]
    page = page_of(run.measured_before().trained(history).measured_after().finished())
    assert "2 steps had a loss that is NaN or infinite and are not drawn" in page.section("curves")
    assert "No hold-out loss was measured while training" in page.section("curves")


def test_no_curve_is_drawn_without_a_point(make: Make) -> None:
    run = make().begin()
    run.attempt()
    page = page_of(run.measured_before().trained([]).measured_after().finished())
    assert page.section("curves").count("svg") == 0
    assert "has no losses to draw" in page.section("curves")


def test_the_same_run_gives_the_same_page(make: Make) -> None:
    data = gather(make().whole().store, "homes-20261124-120000-abcd")
    assert render(data) == render(data)
