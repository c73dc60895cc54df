"""Curation as a whole: the funnel adds up, sides keep clusters whole, shares are met, and order plays no part."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from runspec.curation import CurationSpec
from runspec.data import DataSpec
from runspec.errors import DataError
from training.curation.balance import most_per_value
from training.curation.curate import Curated, curate
from training.curation.holdout import split_holdout, tie
from training.curation.replay import wanted
from training.curation.similarity import Shape, jaccard, normalise, shingles
from training.data.example import Example

Rows = list[dict[str, Any]]
WORDS = [f"word{place}" for place in range(3000)]
CAP_OF_MANY = {"kind": "cap", "column": "topic", "max_rows": 10_000}
NEAR = {"duplicates": {"kind": "near"}}


def rows(count: int, seed: int = 0, copies: float = 0.4) -> Rows:
    """Rows with topics of uneven size, some of them near-duplicates, a few of them poor."""
    chance = random.Random(seed)
    made: Rows = []
    for place in range(count):
        if made and chance.random() < copies:
            words = chance.choice(made)["completion"].split()
            words[chance.randrange(len(words))] = chance.choice(WORDS)
        else:
            words = chance.choices(WORDS, k=chance.randint(50, 70))
        topic = chance.choice(["a", "a", "a", "a", "a", "b", "b", "c"])
        made.append({"prompt": f"question {place // 2}", "completion": " ".join(words), "topic": topic})
    return made + [{"prompt": f"poor {place}", "completion": "no", "topic": "a"} for place in range(count // 10)]


def write(folder: Path, name: str, made: Rows) -> dict[str, str]:
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in made))
    return {"kind": "file", "path": name}


def curated(folder: Path, made: Rows, curation: dict[str, Any], seed: int = 0, **options: Any) -> Curated:
    values = {"source": write(folder, "data.jsonl", made), "curation": curation, **options}
    return curate(DataSpec.model_validate_json(json.dumps(values)), folder, seed)


def everything(folder: Path) -> dict[str, Any]:
    """Every stage at once."""
    replay = [{"prompt": f"talk {place}", "completion": f"chat number {place} of many"} for place in range(300)]
    return {
        **NEAR,
        "filters": [{"kind": "length", "min": 2}],
        "balance": {"kind": "share", "column": "topic", "max_share": 0.4},
        "replay": {"source": write(folder, "replay.jsonl", replay), "share": 0.2},
    }


def like(one: Example, other: Example) -> float:
    return jaccard(*(shingles(normalise(each.row_text), Shape("words", 3)) for each in (one, other)))


@pytest.mark.parametrize("duplicates", [{"kind": "keep"}, {"kind": "exact"}, {"kind": "near"}])
@pytest.mark.parametrize("max_rows", [None, 60])
def test_the_funnel_adds_up(tmp_path: Path, duplicates: dict[str, Any], max_rows: int | None) -> None:
    made = rows(300)
    found = curated(tmp_path, made, everything(tmp_path) | {"duplicates": duplicates}, max_rows=max_rows)
    left = 0
    for step in found.funnel.steps:
        left += step.change
        assert step.left == left >= 0
    assert left == len(found.train)
    fates = Counter(dropped.stage for dropped in found.funnel.dropped)
    for stage, count in fates.items():
        assert found.funnel.rows(stage) == count
    own = [example for example in found.train if not example.replay]
    dropped = sum(count for stage, count in fates.items() if not stage.startswith("replay"))
    assert len(own) + len(found.holdout) + dropped == len(made)
    origins = [example.origin for example in (*own, *found.holdout)]
    origins += [row.origin for row in found.funnel.dropped if not row.stage.startswith("replay")]
    assert len(set(origins)) == len(made)
    assert f"= {len(found.train):,} to train on" in found.funnel.in_words()


def test_everything_is_the_same_in_every_order(tmp_path: Path) -> None:
    made = rows(300)
    first = curated(tmp_path, made, everything(tmp_path), max_rows=100)
    again = curated(tmp_path, random.Random(3).sample(made, len(made)), everything(tmp_path), max_rows=100)
    assert first.digest == again.digest
    assert first.certificate.train_digest == again.certificate.train_digest
    other = curated(tmp_path, made, everything(tmp_path), seed=1, max_rows=100)
    assert other.certificate.train_digest != first.certificate.train_digest
    assert other.certificate.holdout_digest == first.certificate.holdout_digest


@pytest.mark.parametrize("drop", [True, False])
@pytest.mark.parametrize("group_key", [None, "prompt"])
def test_no_cluster_of_near_duplicates_is_on_both_sides(tmp_path: Path, drop: bool, group_key: str | None) -> None:
    curation = {"duplicates": {"kind": "near", "drop": drop}}
    made = rows(400, copies=0.3 if drop else 0.15)
    holdout = {"kind": "split", "fraction": 0.2, "group_key": group_key}
    found = curated(tmp_path, made, curation, holdout=holdout)
    assert len(found.holdout) >= 20
    held, trained = (
        [shingles(normalise(example.row_text), Shape("words", 3)) for example in side]
        for side in (found.holdout, found.train)
    )
    assert max(jaccard(one, other) for one in held for other in trained) < 0.8
    assert found.certificate.is_clean
    assert not {example.group for example in found.train} & {example.group for example in found.holdout} - {None}
    if drop:
        assert found.funnel.rows("near-duplicate") > 50
    else:
        assert len(found.train) + len(found.holdout) + found.funnel.rows("like a held-out row") == len(made)


def test_without_near_duplicates_the_sides_are_those_of_before(tmp_path: Path) -> None:
    made = rows(200, copies=0)
    plain = curated(tmp_path, made, {"duplicates": {"kind": "keep"}})
    for curation in ({}, NEAR, {"duplicates": {"kind": "near", "drop": False}}):
        assert curated(tmp_path, made, curation).digest == plain.digest


def test_near_duplicates_that_stay_are_told_of(tmp_path: Path) -> None:
    found = curated(tmp_path, rows(300), {})
    assert found.certificate.near_duplicates > 0
    assert any("scores on them are too high" in warning for warning in found.warnings)
    assert any("the prompt of a training row; data.holdout.group_key" in warning for warning in found.warnings)


def test_training_rows_like_a_hold_out_of_its_own_are_left_out(tmp_path: Path) -> None:
    made = rows(100, copies=0)
    held = [{"prompt": row["prompt"], "completion": f"{row['completion']} indeed"} for row in made[:10]]
    holdout = {"kind": "source", "source": write(tmp_path, "held.jsonl", held)}
    found = curated(tmp_path, made, NEAR, holdout=holdout)
    assert found.funnel.rows("like a held-out row") == 10
    assert len(found.holdout) == 10
    assert found.certificate.is_clean
    assert {row.reason[:10] for row in found.funnel.dropped if row.stage == "like a held-out row"} == {"similarity"}
    kept = curated(tmp_path, made, {}, holdout=holdout)
    assert kept.certificate.near_duplicates == 10


def test_ties_make_one_group_of_many() -> None:
    names = ["d", "b", "c", "a", "e"]
    assert tie(names, [(0, 1), (1, 2)]) == {"b": "b", "c": "b", "d": "b"}
    assert tie(names, [(0, 3), (2, 4), (4, 3)]) == dict.fromkeys("acde", "a")
    assert tie(names, []) == {}


def test_a_cluster_larger_than_the_hold_out_is_trained_on() -> None:
    examples = [Example(text=f"row {place}") for place in range(100)]
    links = [(0, place) for place in range(1, 30)]
    for fraction in (0.1, 0.2, 0.25):
        held = split_holdout(examples, fraction, links)
        assert not any(held[:30])
        assert any(held[30:])


@pytest.mark.parametrize("share", [0.26, 0.3, 0.4, 0.5, 0.7])
def test_no_value_has_more_than_its_share(tmp_path: Path, share: float) -> None:
    made = [
        {"prompt": f"{topic} {place}", "completion": "yes", "topic": topic}
        for topic, count in (("a", 300), ("b", 90), ("c", 40), ("d", 35))
        for place in range(count)
    ]
    curation = {"balance": {"kind": "share", "column": "topic", "max_share": share}}
    found = curated(tmp_path, made, curation)
    counts = Counter(example.stratum for example in found.train)
    most = max(counts.values())
    assert most <= share * len(found.train)
    before = curated(tmp_path, made, {})
    of_all = Counter(example.stratum for example in curated(tmp_path, made, {"balance": CAP_OF_MANY}).train)
    caps = [cap for cap in range(1, 301) if cap <= share * sum(min(count, cap) for count in of_all.values())]
    assert most == min(max(caps), max(of_all.values()))
    assert found.funnel.rows("balance of topic") == len(before.train) - len(found.train)
    assert len(found.holdout) == len(before.holdout)


def test_equal_and_capped(tmp_path: Path) -> None:
    made = rows(300, copies=0)
    equal = curated(tmp_path, made, {"balance": {"kind": "equal", "column": "topic"}})
    assert len(set(Counter(example.stratum for example in equal.train).values())) == 1
    capped = curated(tmp_path, made, {"balance": {"kind": "cap", "column": "topic", "max_rows": 40}})
    counts = Counter(example.stratum for example in capped.train)
    assert max(counts.values()) == 40
    assert any("40 of them stay" in row.reason for row in capped.funnel.dropped)


def test_too_few_values_for_the_share_are_refused() -> None:
    spec = CurationSpec.model_validate({"balance": {"kind": "share", "column": "topic", "max_share": 0.3}}).balance
    assert spec is not None
    with pytest.raises(DataError, match="has only 2: 'a' \\(5 rows\\), 'b' \\(9 rows\\)") as caught:
        most_per_value({"a": 5, "b": 9}, spec)
    assert "at least 0.50" in caught.value.fix


@pytest.mark.parametrize("share", [0.01, 0.1, 0.25, 0.5, 0.8])
def test_the_replay_share_is_met_within_a_row(tmp_path: Path, share: float) -> None:
    replay = [{"prompt": f"talk {place}", "completion": f"number {place}"} for place in range(2000)]
    source = write(tmp_path, "replay.jsonl", replay)
    found = curated(tmp_path, rows(200, copies=0), {"replay": {"source": source, "share": share}})
    mixed = sum(example.replay for example in found.train)
    assert abs(mixed - share * len(found.train)) <= 1
    assert mixed == wanted(len(found.train) - mixed, share)
    assert found.train[-1].replay
    assert not any(example.replay for example in found.holdout)


def test_replay_rows_take_no_system_prompt_and_none_is_a_copy_or_leaks(tmp_path: Path) -> None:
    made = rows(100, copies=0)
    held = curated(tmp_path, made, {}).holdout
    leaky = [{"prompt": row["prompt"], "completion": row["completion"] + " indeed"} for row in made]
    fresh = [{"prompt": f"talk {place}", "completion": f"number {place}"} for place in range(50)]
    source = write(tmp_path, "replay.jsonl", [*leaky, *fresh, *fresh, *made])
    curation = {"replay": {"source": source, "share": 0.6}}
    found = curated(tmp_path, made, curation, system_prompt="Be brief.")
    mixed = [example for example in found.train if example.replay]
    assert all(example.messages[0]["role"] == "user" for example in mixed)
    assert all(example.messages[0]["role"] == "system" for example in found.train if not example.replay)
    assert len({example.digest for example in found.train}) == len(found.train)
    # The held-out rows themselves, and what is nearly the same.
    assert found.funnel.rows("replay: like a held-out row") == 2 * len(held)
    assert found.funnel.rows("replay: exact copy") == 50 + len(made) - len(held)
    assert found.certificate.is_clean
    assert max(like(one, other) for one in mixed for other in held) < 0.8


def test_too_few_replay_rows_are_all_taken_and_told_of(tmp_path: Path) -> None:
    source = write(tmp_path, "replay.jsonl", [{"prompt": "hi", "completion": f"hello {n}"} for n in range(5)])
    found = curated(tmp_path, rows(200, copies=0), {"replay": {"source": source, "share": 0.5}})
    assert sum(example.replay for example in found.train) == 5
    assert any("its source has only 5 rows" in warning for warning in found.warnings)


def test_replay_rows_are_never_examples_in_a_prompt(tmp_path: Path) -> None:
    from training.evaluation.fewshot import pick_few_shot

    found = curated(tmp_path, rows(50, copies=0), everything(tmp_path) | {"balance": None})
    shots = pick_few_shot(found.train, 1000)
    assert shots
    assert not any(example.replay for example in shots)


def test_a_row_survives_json_with_what_curation_knows_of_it() -> None:
    example = Example(text="a", group="g", stratum="s", replay=True, origin="o")
    assert Example.from_json(json.loads(json.dumps(example.to_json()))) == example
    assert "replay" not in Example(text="a").to_json()
    assert example.digest == Example(text="a").digest
