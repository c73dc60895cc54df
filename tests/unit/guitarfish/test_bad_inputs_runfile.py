"""Bad run files: each is refused with its place and the way out, exit code 2, and no traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from guitarfish.__main__ import run

GOOD = """\
name: my-run
model:
  source: {kind: hub, id: some/model}
data:
  source: {kind: file, path: data.jsonl}
"""


def and_(text: str) -> str:
    """A good run file with more after its five lines."""
    return GOOD + text


BAD_FILES: dict[str, tuple[str, list[str]]] = {
    # YAML itself
    "empty": ("", ["the run file is empty", "guitarfish init"]),
    "only comments": ("# nothing\n", ["the run file is empty"]),
    "a list": ("- name: x\n", ["is a list", "run.yaml:1:1"]),
    "a word": ("hello\n", ["is a single value", "run.yaml:1:1"]),
    "tab": ("name: x\nlora:\n\trank: 3\n", ["a tab is used", "run.yaml:3:1", "indent with spaces", "^"]),
    "colon in text": ("name: a: b\n", ["a `:` where none may stand", "run.yaml:1:8", "quotes"]),
    "open bracket": (and_("lora: {rank: [1\nseed: 1\n"), ["not valid YAML", "bracket", "line 6"]),
    "open quote": (and_("store: 'abc\n"), ["not valid YAML", "close the quote that was opened in line 6"]),
    "odd indentation": ("name: x\n  seed: 1\n", ["not valid YAML", "run.yaml:2"]),
    "two documents": (and_("---\nname: b\n"), ["a second document", "run.yaml:6:1", "`---`"]),
    "duplicate key": (and_("name: again\n"), ["`name` is given twice, first in line 1", "run.yaml:6:1"]),
    "duplicate inner key": (and_("lora:\n  rank: 8\n  rank: 16\n"), ["`rank` is given twice", "run.yaml:8:3"]),
    "number as key": (and_("1: 2\n"), ["`1` is not", "run.yaml:6:1"]),
    "self reference": (and_("lora: &a [*a]\n"), ["aliases", "run.yaml:6"]),
    "alias bomb": (
        "a: &a [x,x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\n"
        "d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: [*e,*e,*e]\n",
        ["aliases"],
    ),
    "unknown alias": (and_("lora: *nothing\n"), ["not valid YAML", "run.yaml:6"]),
    "python tag": (and_("store: !!python/object/apply:os.system ['x']\n"), ["run.yaml:6"]),
    "control character": (and_("store: a\x01b\n"), ["U+0001", "run.yaml:6"]),
    # keys
    "misspelt key": (and_("lora:\n  rnak: 8\n"), ["`rnak`", "run.yaml:7:3", "lora.rnak", "did you mean `rank`?"]),
    "misspelt section": (and_("trainin:\n  epochs: 1\n"), ["`trainin`", "run.yaml:6:1", "did you mean `training`?"]),
    "key of a section at the top": (and_("rank: 8\n"), ["`rank`", "run.yaml:6:1", "belongs under `lora`"]),
    "key of another section": (and_("lora:\n  epochs: 3\n"), ["run.yaml:7:3", "belongs under `training`"]),
    "key of the top inside": (and_("lora:\n  seed: 3\n"), ["run.yaml:7:3", "stands at the top level"]),
    "another trainer's name": (and_("training:\n  lr: 1e-4\n"), ["run.yaml:7:3", "write `learning_rate`"]),
    "another trainer's name elsewhere": (and_("lora_alpha: 32\n"), ["`alpha` belongs under `lora`"]),
    "key of another kind": (
        GOOD.replace("kind: file, path: data.jsonl", "kind: file, path: data.jsonl, pattern: '*'"),
        ["`pattern` is no key of `data.source` of kind file", "run.yaml:5", "key of kind folder"],
    ),
    "nothing like it": (and_("zzzzzz: 1\n"), ["`zzzzzz`", "run.yaml:6:1", "keys here: name, store"]),
    "missing section": ("name: x\ndata: {source: {kind: file, path: d}}\n", ["`model` is missing", "the base model"]),
    "missing key": (
        GOOD.replace("{kind: hub, id: some/model}", "{kind: hub}"),
        ["`model.source.id` is missing", "run.yaml:3:11", "repository"],
    ),
    # kinds
    "missing kind": (
        GOOD.replace("kind: file, ", ""),
        ["`data.source.kind` is missing", "run.yaml:5:11", "file, folder, hub"],
    ),
    "unknown kind": (
        and_("evaluation:\n  scorers: [{kind: exact}]\n"),
        ["'exact'", "run.yaml:7:20", "did you mean exact_match?", "regex, contains"],
    ),
    "unknown method": (and_("method: {kind: magic}\n"), ["method.kind", "run.yaml:6:16", "sft"]),
    # values
    "text for a number": (and_("lora: {rank: high}\n"), ["'high'", "a whole number", "run.yaml:6:14", "lora.rank"]),
    "number in quotes": (and_("lora: {rank: '8'}\n"), ["expected a whole number", "write 8, without quotes"]),
    "yes for true": (and_("lora: {rslora: yes}\n"), ["expected true or false", "run.yaml:6:16", "write true"]),
    "float for an int": (and_("seed: 1.5\n"), ["seed", "a whole number", "run.yaml:6:7"]),
    "below the bound": (and_("seed: -1\n"), ["`seed` is -1", "at least 0", "run.yaml:6:7"]),
    "above the bound": (and_("lora: {rank: 4096}\n"), ["`lora.rank` is 4096", "at most 512", "run.yaml:6:14"]),
    "at the open bound": (and_("lora: {dropout: 1}\n"), ["less than 1", "run.yaml:6:17"]),
    "not a number": (and_("training: {learning_rate: .nan}\n"), ["more than 0", "run.yaml:6:27"]),
    "infinite": (and_("training: {learning_rate: .inf}\n"), ["learning_rate", "run.yaml:6:27"]),
    "none of the choices": (
        and_("hardware: {accelerator: gpus}\n"),
        ["one of auto, cpu, gpu", "run.yaml:6:25", "did you mean gpu?"],
    ),
    "rank that vLLM lacks": (and_("serving: {max_rank: 24}\n"), ["`serving.max_rank` is 24", "one of 1, 8, 16, 32"]),
    "null for a number": (and_("seed:\n"), ["`seed` is null", "remove the key"]),
    "list for a section": (and_("lora: [rank, 8]\n"), ["`lora` is a list of 2", "a section", "run.yaml:6:7"]),
    "section for text": (and_("store: {path: x}\n"), ["`store` is a section with path", "expected text"]),
    "text for a list": (and_("evaluation: {scorers: loss}\n"), ["a list of sections", "run.yaml:6:23"]),
    "number in a list of text": (and_("lora: {targets: [q_proj, 3]}\n"), ["`lora.targets[1]` is 3", "run.yaml:6:26"]),
    "too short a list": (
        and_("evaluation: {scorers: [{kind: label, labels: [one]}]}\n"),
        ["evaluation.scorers[0].labels", "at least 2"],
    ),
    "bad name": (GOOD.replace("my-run", "My Run"), ["'My Run'", "run.yaml:1:7", "small letters, digits and hyphens"]),
    "None for null": (and_("publish: {alias: None}\n"), ["'None'", "run.yaml:6:18"]),
    # keys that do not agree
    "metric that nothing gives": (
        and_("gate:\n  metric: f1\n"),
        ["gate.metric is 'f1'", "exact_match, loss", "run.yaml:7:11"],
    ),
    "drift that nothing measures": (
        and_("gate: {max_drift: 0.1}\nevaluation: {general: null}\n"),
        ["nothing measures it", "run.yaml:6:19", "run.yaml:7:23"],
    ),
    "rank above the server's": (
        and_("lora: {rank: 64}\n"),
        ["lora.rank is 64", "serving.max_rank is 16", "run.yaml:6:14", "raise the second"],
    ),
    "DoRA to be served": (and_("lora: {dora: true}\n"), ["vLLM cannot serve DoRA", "run.yaml:6:14", "publish: null"]),
    "replicas the wrong way round": (
        and_("serving: {min_replicas: 3, max_replicas: 2}\n"),
        ["serving.max_replicas is 2", "serving.min_replicas is 3", "run.yaml:6"],
    ),
    "not a regular expression": (
        and_("evaluation: {scorers: [{kind: regex, pattern: '('}]}\ngate: {metric: regex}\n"),
        ["is not a regex", "evaluation.scorers"],
    ),
    "one metric twice": (
        and_("evaluation: {scorers: [{kind: loss}, {kind: loss}]}\ngate: {metric: loss}\n"),
        ["`loss`", "evaluation.scorers"],
    ),
}

BAD_OVERRIDES: dict[str, tuple[str, list[str]]] = {
    "no equals sign": ("lora.rank", ["key=value", "--set lora.rank"]),
    "no key": ("=3", ["key=value"]),
    "empty part": ("lora..rank=3", ["empty part"]),
    "unknown key": ("lora.rnak=3", ["--set lora.rnak=3", "did you mean `rank`?"]),
    "unknown section": ("lroa.rank=3", ["--set lroa.rank=3", "did you mean `lora`?"]),
    "inside a value": ("name.first=3", ["`name` is a single value", "--set name=VALUE"]),
    "wrong type": ("lora.rank=high", ["--set lora.rank=high", "a whole number"]),
    "not YAML": ("lora.targets=[", ["not valid YAML", "--set lora.targets=["]),
    "item of a list that is not there": ("evaluation.scorers.0.kind=loss", ["set the whole list"]),
    "does not agree with a default": ("lora.rank=32", ["serving.max_rank is 16", "--set lora.rank=32"]),
}


def refused(capsys: pytest.CaptureFixture[str], arguments: list[str], fragments: list[str]) -> None:
    """The command line is refused, and the message holds the fragments."""
    code = run(arguments)
    out, err = capsys.readouterr()
    assert code == 2, err
    assert err.startswith("error: ")
    assert "Traceback" not in err
    assert out == ""
    for fragment in fragments:
        assert fragment in err


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_file_is_refused(case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, fragments = BAD_FILES[case]
    (tmp_path / "run.yaml").write_text(text)
    refused(capsys, ["check", str(tmp_path / "run.yaml")], fragments)


@pytest.mark.parametrize("case", BAD_OVERRIDES)
def test_bad_override_is_refused(case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    override, fragments = BAD_OVERRIDES[case]
    (tmp_path / "run.yaml").write_text(GOOD)
    refused(capsys, ["check", str(tmp_path / "run.yaml"), "--set", override], fragments)


def test_missing_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "other.yaml").write_text(GOOD)
    refused(capsys, ["check", str(tmp_path / "run.yaml")], ["there is no run file", "other.yaml"])


def test_missing_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refused(capsys, ["check", str(tmp_path / "no" / "run.yaml")], ["does not exist either"])


def test_folder_instead_of_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.yaml").write_text(GOOD)
    refused(capsys, ["check", str(tmp_path)], ["is a folder", "a.yaml"])


def test_not_utf8(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run.yaml").write_bytes(b"name: x\nstore: caf\xe9\n")
    refused(capsys, ["check", str(tmp_path / "run.yaml")], ["not UTF-8", "line 2", "0xe9"])


def test_several_problems_are_listed_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run.yaml").write_text(and_("lora: {rank: 0, dora: yes}\nlr: 1\n"))
    refused(
        capsys,
        ["check", str(tmp_path / "run.yaml")],
        ["3 problems", "run.yaml:6:14", "run.yaml:6:23", "run.yaml:7:1", "1.", "2.", "3."],
    )


@pytest.mark.parametrize(
    ("text", "arguments", "fragment"),
    [
        (and_("lora: {rnak: 8}\n"), ["check", "run.yaml"], "did you mean `rank`?"),
        (GOOD, ["check", "run.yaml", "--set", "lora.rank=x"], "--set lora.rank=x"),
        (GOOD, ["check", "run.yaml", "--bogus"], "--bogus"),
        (GOOD, ["chekc", "run.yaml"], "check"),
        (GOOD, ["check"], "RUN.yaml"),
    ],
)
def test_through_the_real_process(text: str, arguments: list[str], fragment: str, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "guitarfish", *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    )
    assert done.returncode == 2
    assert fragment in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
