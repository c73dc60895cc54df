"""What is wrong with a run file, where, and the fix: each asserted by itself."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.command_line import GOOD

from runspec.errors import SpecError
from runspec.load import load_run, parse_run

ALIAS_BOMB = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join(10 * [f'*{before}'])}]\n" for before, name in zip("abcde", "bcdef", strict=True)
)

FILES: dict[str, tuple[str, str, str, str]] = {
    "DoRA that is published": (
        GOOD + "lora: {dora: true}\n",
        "`lora.dora` is true, but the adapter is published for serving, and vLLM cannot serve DoRA.",
        "run.yaml:6:14, key lora.dora",
        "Set `lora.dora: false` or `publish: null`.",
    ),
    "drift that is not measured": (
        GOOD + "gate: {max_drift: 0.1}\nevaluation: {general: null}\n",
        "`gate.max_drift` is 0.1, but drift is not measured: `evaluation.general` is null.",
        "run.yaml:6:19, key gate.max_drift; run.yaml:7:23, key evaluation.general",
        "Set `gate.max_drift: null`, or remove `general: null`.",
    ),
    "a scorer's bad regular expression": (
        GOOD + "evaluation: {scorers: [{kind: loss}, {kind: regex, pattern: '(a: b'}]}\ngate: {metric: regex}\n",
        "'(a: b' is not a regular expression: missing ), unterminated subpattern at position 0.",
        "run.yaml:6:61, key evaluation.scorers[1].pattern",
        "Correct the pattern; Python's syntax applies.",
    ),
    "empty": ("", "The run file is empty.", "run.yaml", "Write one with `guitarfish init`."),
    "only comments": ("# nothing\n", "The run file is empty.", "run.yaml", "Write one with `guitarfish init`."),
    "a list": (
        "- name: x\n",
        "A run file is a mapping of keys to values; this one is a list.",
        "run.yaml:1:1",
        "Start with `name: my-run`; see docs/reference.md.",
    ),
    "a word": (
        "hello\n",
        "A run file is a mapping of keys to values; this one is a single value.",
        "run.yaml:1:1",
        "Start with `name: my-run`; see docs/reference.md.",
    ),
    "tab": (
        "name: x\nlora:\n\trank: 3\n",
        "Not valid YAML: a tab is used for indentation.\n     3 |  rank: 3\n       | ^",
        "run.yaml:3:1",
        "Indent with spaces.",
    ),
    "colon in text": (
        "name: a: b\n",
        "Not valid YAML: a `:` is not allowed here.\n     1 | name: a: b\n       |        ^",
        "run.yaml:1:8",
        "Put text that contains `: ` in quotes, and check the indentation.",
    ),
    "open bracket": (
        GOOD + "lora: {rank: [1\nseed: 1\n",
        "Not valid YAML: expected ',' or ']', but got ':'.\n     7 | seed: 1\n       |     ^",
        "run.yaml:7:5",
        "Close the [ opened in line 6.",
    ),
    "open quote": (
        GOOD + "store: 'abc\n",
        "Not valid YAML: found unexpected end of stream.\n     7 | \n       | ^",
        "run.yaml:7:1",
        "Close the ' opened in line 6.",
    ),
    "odd indentation": (
        "name: x\n  seed: 1\n",
        "Not valid YAML: a `:` is not allowed here.\n     2 |   seed: 1\n       |       ^",
        "run.yaml:2:7",
        "Put text that contains `: ` in quotes, and check the indentation.",
    ),
    "two documents": (
        GOOD + "---\nname: b\n",
        "Not valid YAML: a second document starts here.\n     6 | ---\n       | ^",
        "run.yaml:6:1",
        "Keep one run in one file: remove the `---`.",
    ),
    "duplicate key": (
        GOOD + "name: again\n",
        "Key `name` is repeated; it is first in line 1.",
        "run.yaml:6:1",
        "Remove one of the two.",
    ),
    "duplicate inner key": (
        GOOD + "lora:\n  rank: 8\n  rank: 16\n",
        "Key `rank` is repeated; it is first in line 7.",
        "run.yaml:8:3",
        "Remove one of the two.",
    ),
    "number as key": (
        GOOD + "1: 2\n",
        "A key must be text, not `1`.",
        "run.yaml:6:1",
        "See docs/reference.md for the keys.",
    ),
    "self reference": (
        GOOD + "lora: &a [*a]\n",
        "The run file is nested more than 40 levels deep.",
        "run.yaml:6:7",
        "Check the brackets, and that no alias contains itself.",
    ),
    "alias bomb": (
        ALIAS_BOMB,
        "The run file has more than 100,000 values.",
        "run.yaml:1:26",
        "Remove some; an alias (`*name`) counts as all that it repeats.",
    ),
    "unknown alias": (
        GOOD + "lora: *nothing\n",
        "Not valid YAML: found undefined alias 'nothing'.\n     6 | lora: *nothing\n       |       ^",
        "run.yaml:6:7",
        "Correct this line, or its indentation.",
    ),
    "python tag": (
        GOOD + "store: !!python/object/apply:os.system ['x']\n",
        "`store` is a list of 1, expected text.",
        "run.yaml:6:8, key store",
        "Write text.",
    ),
    "control character": (
        GOOD + "store: a\x01b\n",
        "The character U+0001 is not allowed in YAML.",
        "run.yaml:6",
        "Remove it.",
    ),
    "misspelt key": (
        GOOD + "lora:\n  rnak: 8\n",
        "Unknown key `lora.rnak`.",
        "run.yaml:7:3, key lora.rnak",
        "Did you mean `lora.rank`?",
    ),
    "misspelt section": (
        GOOD + "trainin:\n  epochs: 1\n",
        "Unknown key `trainin`.",
        "run.yaml:6:1, key trainin",
        "Did you mean `training`?",
    ),
    "key of a section at the top": (
        GOOD + "rank: 8\n",
        "Unknown key `rank`.",
        "run.yaml:6:1, key rank",
        "Did you mean `lora.rank`?",
    ),
    "key of another section": (
        GOOD + "lora:\n  epochs: 3\n",
        "Unknown key `lora.epochs`.",
        "run.yaml:7:3, key lora.epochs",
        "Did you mean `training.epochs`?",
    ),
    "key of the top inside": (
        GOOD + "lora:\n  seed: 3\n",
        "Unknown key `lora.seed`.",
        "run.yaml:7:3, key lora.seed",
        "Did you mean `seed` at the top level?",
    ),
    "another trainer's name": (
        GOOD + "training:\n  lr: 1e-4\n",
        "Unknown key `training.lr`.",
        "run.yaml:7:3, key training.lr",
        "Did you mean `training.learning_rate`?",
    ),
    "another trainer's name elsewhere": (
        GOOD + "lora_alpha: 32\n",
        "Unknown key `lora_alpha`.",
        "run.yaml:6:1, key lora_alpha",
        "Did you mean `lora.alpha`?",
    ),
    "key of another kind": (
        GOOD.replace("kind: file, path: data.jsonl", "kind: file, path: data.jsonl, pattern: '*'"),
        "Unknown key `data.source.pattern` for kind `file`.",
        "run.yaml:5:42, key data.source.pattern",
        "Set `kind: folder`, which has `pattern`.",
    ),
    "nothing like it": (
        GOOD + "zzzzzz: 1\n",
        "Unknown key `zzzzzz`.",
        "run.yaml:6:1, key zzzzzz",
        "Use one of name, store, seed, labels, model, data, lora, method, training, hardware, strategy, budget, "
        "evaluation, gate, publish, serving, kubernetes, tuning.",
    ),
    "missing section": (
        "name: x\ndata: {source: {kind: file, path: d}}\n",
        "`model` is missing.",
        "run.yaml:1:1, key model",
        "Add `model`: the base model.",
    ),
    "missing key": (
        GOOD.replace("{kind: hub, id: some/model}", "{kind: hub}"),
        "`model.source.id` is missing.",
        "run.yaml:3:11, key model.source.id",
        "Add `id`: repository, for example `HuggingFaceTB/SmolLM2-135M-Instruct`.",
    ),
    "missing kind": (
        GOOD.replace("kind: file, ", ""),
        "`data.source.kind` is missing.",
        "run.yaml:5:11, key data.source.kind",
        "Add `kind:` with one of file, folder, hub.",
    ),
    "unknown kind": (
        GOOD + "evaluation:\n  scorers: [{kind: exact}]\n",
        "Unknown kind 'exact' in `evaluation.scorers[0].kind`.",
        "run.yaml:7:20, key evaluation.scorers[0].kind",
        "Did you mean `exact_match`? Use one of exact_match, json, label, regex, contains, loss, custom.",
    ),
    "unknown method": (
        GOOD + "method: {kind: magic}\n",
        "Unknown kind 'magic' in `method.kind`.",
        "run.yaml:6:16, key method.kind",
        "Use one of sft, dpo, orpo, kto.",
    ),
    "text for a number": (
        GOOD + "lora: {rank: high}\n",
        "`lora.rank` is the text 'high', expected a whole number, at least 1, at most 512.",
        "run.yaml:6:14, key lora.rank",
        "Write a whole number, at least 1, at most 512.",
    ),
    "number in quotes": (
        GOOD + "lora: {rank: '8'}\n",
        "`lora.rank` is the text '8', expected a whole number, at least 1, at most 512.",
        "run.yaml:6:14, key lora.rank",
        "Write 8, without quotes.",
    ),
    "yes for true": (
        GOOD + "lora: {rslora: yes}\n",
        "`lora.rslora` is the text 'yes', expected true or false.",
        "run.yaml:6:16, key lora.rslora",
        "Write true, without quotes.",
    ),
    "float for an int": (
        GOOD + "seed: 1.5\n",
        "`seed` is 1.5, expected a whole number, at least 0.",
        "run.yaml:6:7, key seed",
        "Write a whole number, at least 0.",
    ),
    "below the bound": (
        GOOD + "seed: -1\n",
        "`seed` is -1, expected a whole number, at least 0.",
        "run.yaml:6:7, key seed",
        "Write a whole number, at least 0.",
    ),
    "above the bound": (
        GOOD + "lora: {rank: 4096}\n",
        "`lora.rank` is 4096, expected a whole number, at least 1, at most 512.",
        "run.yaml:6:14, key lora.rank",
        "Write a whole number, at least 1, at most 512.",
    ),
    "at the open bound": (
        GOOD + "lora: {dropout: 1}\n",
        "`lora.dropout` is 1, expected a number, at least 0, less than 1.",
        "run.yaml:6:17, key lora.dropout",
        "Write a number, at least 0, less than 1.",
    ),
    "not a number": (
        GOOD + "training: {learning_rate: .nan}\n",
        "`training.learning_rate` is nan, expected a number, more than 0.",
        "run.yaml:6:27, key training.learning_rate",
        "Write a number, more than 0.",
    ),
    "infinite": (
        GOOD + "training: {learning_rate: .inf}\n",
        "`training.learning_rate` is inf, expected a number, more than 0.",
        "run.yaml:6:27, key training.learning_rate",
        "Write a number, more than 0.",
    ),
    "none of the choices": (
        GOOD + "hardware: {accelerator: gpus}\n",
        "`hardware.accelerator` is the text 'gpus', expected one of auto, cpu, gpu.",
        "run.yaml:6:25, key hardware.accelerator",
        "Did you mean `gpu`?",
    ),
    "rank that vLLM lacks": (
        GOOD + "serving: {max_rank: 24}\n",
        "`serving.max_rank` is 24, expected one of 1, 8, 16, 32, 64, 128, 256, 320, 512.",
        "run.yaml:6:21, key serving.max_rank",
        "Write one of 1, 8, 16, 32, 64, 128, 256, 320, 512.",
    ),
    "null for a number": (
        GOOD + "seed:\n",
        "`seed` is null (nothing), expected a whole number, at least 0.",
        "run.yaml:6:1, key seed",
        "Give it a value, or remove the key to take the default.",
    ),
    "list for a section": (
        GOOD + "lora: [rank, 8]\n",
        "`lora` is a list of 2, expected a section with keys such as rank, alpha, dropout, targets.",
        "run.yaml:6:7, key lora",
        "Set its keys, such as `lora.rank`.",
    ),
    "section for text": (
        GOOD + "store: {path: x}\n",
        "`store` is a section with path, expected text.",
        "run.yaml:6:8, key store",
        "Write text.",
    ),
    "text for a list": (
        GOOD + "evaluation: {scorers: loss}\n",
        "`evaluation.scorers` is the text 'loss', expected a list of sections.",
        "run.yaml:6:23, key evaluation.scorers",
        "Write a list of sections.",
    ),
    "number in a list of text": (
        GOOD + "lora: {targets: [q_proj, 3]}\n",
        "`lora.targets[1]` is 3, expected text.",
        "run.yaml:6:26, key lora.targets[1]",
        "Put it in quotes.",
    ),
    "too short a list": (
        GOOD + "evaluation: {scorers: [{kind: label, labels: [one]}]}\n",
        "`evaluation.scorers[0].labels` is a list of 1, expected a list of text, at least 2 items.",
        "run.yaml:6:46, key evaluation.scorers[0].labels",
        "Write a list of text, at least 2 items.",
    ),
    "bad name": (
        GOOD.replace("my-run", "My Run"),
        "`name` is the text 'My Run', which is not allowed.",
        "run.yaml:1:7, key name",
        "Write text that matches ^[a-z0-9][a-z0-9-]{0,62}$. Name of the run: lower-case letters, digits and hyphens.",
    ),
    "None for null": (
        GOOD + "publish: {alias: None}\n",
        "`publish.alias` is the text 'None', which is not allowed.",
        "run.yaml:6:18, key publish.alias",
        "Write null. The alias that is moved to the new version. Null: none is moved.",
    ),
    "metric that nothing gives": (
        GOOD + "gate:\n  metric: f1\n",
        "`gate.metric` is 'f1', but `evaluation.scorers` gives exact_match, loss.",
        "run.yaml:7:11, key gate.metric",
        "Set `gate.metric: exact_match`, or add a scorer that gives it.",
    ),
    "rank above the server's": (
        GOOD + "lora: {rank: 64}\n",
        "`lora.rank` is 64, but `serving.max_rank` is 16.",
        "run.yaml:6:14, key lora.rank",
        "Raise `serving.max_rank`, or lower `lora.rank`.",
    ),
    "replicas the wrong way round": (
        GOOD + "serving: {min_replicas: 3, max_replicas: 2}\n",
        "`serving.min_replicas` is 3, but `serving.max_replicas` is 2.",
        "run.yaml:6:25, key serving.min_replicas; run.yaml:6:42, key serving.max_replicas",
        "Raise `serving.max_replicas`, or lower `serving.min_replicas`.",
    ),
    "one metric twice": (
        GOOD + "evaluation: {scorers: [{kind: loss}, {kind: loss}]}\ngate: {metric: loss}\n",
        "`evaluation.scorers` gives the metric `loss` twice.",
        "run.yaml:6:23, key evaluation.scorers",
        "Remove one of the two scorers.",
    ),
    "name that is null": (
        GOOD.replace("my-run", "null"),
        "`name` is null (nothing), expected text.",
        "run.yaml:1:7, key name",
        "Give it a value.",
    ),
    "label that Kubernetes would refuse": (
        GOOD + "labels: {team: 'a b'}\n",
        "`labels.team` is the text 'a b', which is not allowed.",
        "run.yaml:6:16, key labels.team",
        "Write text that matches ^([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?$. "
        "Names and values to find and bill the run by: with `team: search`, `guitarfish cost --by team`.",
    ),
    "half a character": (
        GOOD + 'labels: {team: "a\\ud800"}\n',
        "'a\\ud800' cannot be read as str.",
        "run.yaml:6:16",
        "Write it as plain text, a number, true, false or null.",
    ),
    "no scorers": (
        GOOD + "evaluation: {scorers: []}\n",
        "`evaluation.scorers` is empty.",
        "run.yaml:6:23, key evaluation.scorers",
        "Add a scorer that gives exact_match.",
    ),
    "nested too deeply": (
        GOOD + "lora: " + 100 * "[" + 100 * "]",
        "The run file is nested more than 40 levels deep.",
        "run.yaml:6",
        "Check the brackets, and that no alias contains itself.",
    ),
    "nested out of all measure": (
        GOOD + "lora: " + 5000 * "[",
        "The run file is nested more than 40 levels deep.",
        "run.yaml:6",
        "Check the brackets, and that no alias contains itself.",
    ),
    "credentials in the store": (
        GOOD + "store: s3://key:secret@bucket/x\n",
        "`store` contains a user, a password or a query, and would be written into every record.",
        "run.yaml:6:8, key store",
        "Write s3://bucket/prefix, and set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY instead.",
    ),
    "layout of another method": (
        GOOD.replace("data.jsonl}", "data.jsonl}\n  layout: preference"),
        "`data.layout` is preference, but `method.kind` is sft, "
        "which trains on: messages, prompt_completion, alpaca, sharegpt, text.",
        "run.yaml:6:11, key data.layout",
        "Use rows in a layout of the method, or another method.",
    ),
    "several workers with device_map": (
        GOOD + "strategy: {kind: device_map}\nhardware: {workers: 2}\n",
        "`strategy.kind` is device_map, in which one worker owns all GPUs, but `hardware.workers` is 2.",
        "run.yaml:6:18, key strategy.kind; run.yaml:7:21, key hardware.workers",
        "Set `hardware.workers: 1` and `hardware.gpus_per_worker: 2`.",
    ),
    "several GPUs without device_map": (
        GOOD + "strategy: {kind: ddp}\nhardware: {gpus_per_worker: 2}\n",
        "`hardware.gpus_per_worker` is 2, but `strategy.kind` is ddp, in which each worker has one GPU.",
        "run.yaml:7:29, key hardware.gpus_per_worker; run.yaml:6:18, key strategy.kind",
        "Set `hardware.workers: 2`, or `strategy.kind: device_map`.",
    ),
    "sharded bytes": (
        GOOD.replace("some/model}", "some/model}\n  quantization: {kind: nf4, storage: uint8}")
        + "strategy: {kind: zero3}\n",
        "`strategy.kind` is zero3, which cannot shard `model.quantization.storage` uint8.",
        "run.yaml:7:18, key strategy.kind; run.yaml:4:38, key model.quantization.storage",
        "Set `model.quantization.storage: bfloat16` or `auto`.",
    ),
    "a filter's bad regular expression": (
        GOOD + "  curation: {filters: [{kind: pattern, pattern: '(a'}]}\n",
        "'(a' is not a regular expression: missing ), unterminated subpattern at position 0.",
        "run.yaml:6:49, key data.curation.filters[0].pattern",
        "Correct the pattern; Python's syntax applies.",
    ),
    "length filter the wrong way round": (
        GOOD + "  curation: {filters: [{kind: echo}, {kind: length, min: 9, max: 3}]}\n",
        "`min` is 9 and `max` is 3, so every row would be dropped.",
        "run.yaml:6:58, key data.curation.filters[1].min; run.yaml:6:66, key data.curation.filters[1].max",
        "Swap them.",
    ),
    "length filter without limits": (
        GOOD + "  curation: {filters: [{kind: length}]}\n",
        "A length filter without `min` and `max` drops nothing.",
        "run.yaml:6:24, key data.curation.filters[0]",
        "Set one of them.",
    ),
    "merging what is no mapping": (
        GOOD + "lora: {<<: 3}\n",
        "`<<` cannot be read.",
        "run.yaml:6:7",
        "Refer to a mapping with `<<: *name`, once in each section.",
    ),
    "a tag": (
        GOOD + "seed: !!int x\n",
        "'x' cannot be read as int.",
        "run.yaml:6:7",
        "Write it as plain text, a number, true, false or null.",
    ),
}

OVERRIDES: dict[str, tuple[str, str, str, str]] = {
    "no equals sign": (
        "lora.rank",
        "The override 'lora.rank' is not of the form key=value.",
        "--set lora.rank",
        "Write it as `lora.rank=32`.",
    ),
    "no key": ("=3", "The override '=3' is not of the form key=value.", "--set =3", "Write it as `lora.rank=32`."),
    "empty part": (
        "lora..rank=3",
        "The override 'lora..rank=3' is not of the form key=value.",
        "--set lora..rank=3",
        "Write it as `lora.rank=32`.",
    ),
    "unknown key": (
        "lora.rnak=3",
        "Unknown key `lora.rnak`.",
        "--set lora.rnak=3, key lora.rnak",
        "Did you mean `lora.rank`?",
    ),
    "unknown section": ("lroa.rank=3", "Unknown key `lroa`.", "--set lroa.rank=3, key lroa", "Did you mean `lora`?"),
    "inside a value": (
        "name.first=3",
        "`name` is a single value; it has no key `first`.",
        "--set name.first=3",
        "Write --set name=VALUE.",
    ),
    "wrong type": (
        "lora.rank=high",
        "`lora.rank` is the text 'high', expected a whole number, at least 1, at most 512.",
        "--set lora.rank=high, key lora.rank",
        "Write a whole number, at least 1, at most 512.",
    ),
    "not YAML": (
        "lora.targets=[",
        "Not valid YAML: expected the node content, but found '<stream end>'.\n     1 | [\n       |  ^",
        "--set lora.targets=[",
        "Correct this line, or its indentation.",
    ),
    "item of a list that is not there": (
        "evaluation.scorers.0.kind=loss",
        "The run file has no list `evaluation.scorers`.",
        "--set evaluation.scorers.0.kind=loss",
        "Set the whole list: evaluation.scorers=[...].",
    ),
    "does not agree with a default": (
        "lora.rank=32",
        "`lora.rank` is 32, but `serving.max_rank` is 16.",
        "--set lora.rank=32, key lora.rank",
        "Raise `serving.max_rank`, or lower `lora.rank`.",
    ),
}


@pytest.mark.parametrize("case", FILES)
def test_bad_file_is_refused(case: str) -> None:
    text, what, where, fix = FILES[case]
    with pytest.raises(SpecError) as caught:
        parse_run(text, "run.yaml")
    assert (caught.value.what, caught.value.where, caught.value.fix) == (what, where, fix)


@pytest.mark.parametrize("case", OVERRIDES)
def test_bad_override_is_refused(case: str) -> None:
    override, what, where, fix = OVERRIDES[case]
    with pytest.raises(SpecError) as caught:
        parse_run(GOOD, "run.yaml", [override])
    assert (caught.value.what, caught.value.where, caught.value.fix) == (what, where, fix)


def test_several_problems_are_listed_in_the_order_of_the_file() -> None:
    with pytest.raises(SpecError) as caught:
        parse_run(GOOD + "lora: {rank: 0, dora: yes}\nlr: 1\n", "run.yaml")
    assert caught.value.what.splitlines()[:2] == [
        "The run file has 3 problems.",
        "  1. `lora.rank` is 0, expected a whole number, at least 1, at most 512.",
    ]
    places = [line.partition("where: ")[2] for line in caught.value.what.splitlines() if "where: " in line]
    assert places == ["run.yaml:6:14, key lora.rank", "run.yaml:6:23, key lora.dora", "run.yaml:7:1, key lr"]


@pytest.mark.parametrize(
    ("content", "what", "where", "fix"),
    [
        (None, "Run file {} not found.", "{}", "Did you mean `other.yaml`?"),
        (
            b"name: x\nstore: caf\xe9\n",
            "The run file is not UTF-8 text: byte 0xe9 in line 2.",
            "{}:2",
            "Save it as UTF-8.",
        ),
        (
            b"#" * 500_001,
            "The run file has 500,001 bytes; 500,000 are allowed.",
            "{}",
            "Check that this is a run file, not a data file.",
        ),
    ],
)
def test_files_that_cannot_be_read(content: bytes | None, what: str, where: str, fix: str, tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text(GOOD)
    file = tmp_path / "run.yaml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SpecError) as caught:
        load_run(file)
    assert (caught.value.what, caught.value.where, caught.value.fix) == (what.format(file), where.format(file), fix)


def test_a_folder_instead_of_a_run_file(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(GOOD)
    with pytest.raises(SpecError) as caught:
        load_run(tmp_path)
    assert caught.value.what == f"{tmp_path} is a folder, not a run file."
    assert caught.value.fix == f"Name the file: {tmp_path / 'a.yaml'}."
