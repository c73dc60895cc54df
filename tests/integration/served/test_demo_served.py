"""The demo's adapter on the same server: base and tuned model side by side. `make demo` itself is a long test."""

from __future__ import annotations

import pytest
from support.demo import EXAMPLE

from guitarfish.__main__ import run as guitarfish
from registry.adapters import Registry
from runspec.load import load_run
from serving.application import Server
from training.run.receipt import Receipt


def test_the_demo_is_published_for_what_it_gained(demo: Receipt, registry: Registry) -> None:
    assert demo.outcome == "published"
    assert demo.usd > 0
    assert demo.evaluation.tuned["loss"].mean < demo.evaluation.base["loss"].mean - 0.5
    assert registry.resolve("smart-home").version == 1


def test_base_and_tuned_model_answer_side_by_side(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    system = load_run(EXAMPLE / "run.yaml").spec.data.system_prompt or ""
    question = (EXAMPLE / "data" / "question.txt").read_text().strip()
    asked = ["ask", "base", "smart-home", question, "--url", server.url, "--max-tokens", "24", "--system", system]
    assert guitarfish(asked) == 0
    heading, answers = capsys.readouterr().out.strip().splitlines()[:2]
    assert heading.split() == ["base", "smart-home"]
    tuned = answers[heading.index("smart-home") :]
    assert tuned.startswith('{"')
    assert not answers.startswith('{"')
