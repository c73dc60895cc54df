"""How long the search for near-duplicates takes, and how many of the planted ones it finds.

    python benchmarks/near_duplicates.py --rows 50000 --out near_duplicates.json

Rows are made of words drawn by Zipf's law; a fifth of them are copies of another row with some words changed. The exact
similarity of each copy to its original decides which pairs should be found. `datasketch` is measured too if it is
installed. A second set of rows is made from one template: every pair is similar and none is a near-duplicate, so a
search that compares them all takes quadratic time. Seconds are CPU seconds, which other work on the machine changes
little.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import platform
import random
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from runspec.curation import NearDuplicates
from training.curation.certificate import certify
from training.curation.duplicates import near_duplicates
from training.curation.similarity import Shape, jaccard, normalise, shingles
from training.data.example import Example

COPIES = 0.2
"""Share of the rows that are changed copies of others."""
VOCABULARY = 30_000


@dataclass(frozen=True)
class Result:
    """One way to search.

    Attributes:
        seconds: CPU seconds.
        recall: share of the planted pairs at or above the threshold of which one row was dropped; None without any.
        wrong: rows that were dropped although their similarity to the kept row is below the threshold.
    """

    way: str
    rows: int
    seconds: float
    dropped: int
    recall: float | None
    wrong: int


def synthetic(rows: int, seed: int) -> tuple[list[Example], list[tuple[int, int]]]:
    """Rows, and the places of each copy and its original."""
    chance = random.Random(seed)
    words = [f"w{place}" for place in range(VOCABULARY)]
    weights = [1 / (place + 10) for place in range(VOCABULARY)]
    texts: list[list[str]] = []
    pairs: list[tuple[int, int]] = []
    originals = round(rows * (1 - COPIES))
    for _ in range(originals):
        texts.append(chance.choices(words, weights, k=chance.randint(20, 200)))
    for place in chance.choices(range(originals), k=rows - originals):
        copy = list(texts[place])
        for _ in range(chance.randint(0, max(1, len(copy) // 15))):
            copy[chance.randrange(len(copy))] = chance.choice(words)
        pairs.append((len(texts), place))
        texts.append(copy)
    return [Example(text=" ".join(text), origin=f"row {place}") for place, text in enumerate(texts)], pairs


def templated(rows: int) -> list[Example]:
    """Rows that differ in one number; any two have a similarity of 0.7."""
    text = "please turn the heating of room {} in the west wing to twenty degrees before noon if nobody minds"
    return [Example(text=text.format(place), origin=f"row {place}") for place in range(rows)]


def measure(way: str, examples: list[Example], pairs: list[tuple[int, int]], search: Callable[[], Any]) -> Result:
    """Time a search that returns (dropped place, kept place, similarity), and compare it with what was planted."""
    started = time.process_time()
    dropped = search()
    seconds = time.process_time() - started
    shape, threshold = Shape("words", 3), NearDuplicates().threshold

    def similarity(left: int, right: int) -> float:
        sets = (shingles(normalise(examples[place].text or ""), shape) for place in (left, right))
        return jaccard(*sets)

    planted = [pair for pair in pairs if similarity(*pair) >= threshold]
    gone = {place for place, _, _ in dropped}
    found = sum(left in gone or right in gone for left, right in planted)
    wrong = sum(similarity(place, kept) < threshold for place, kept, _ in dropped)
    recall = round(found / len(planted), 4) if planted else None
    return Result(way, len(examples), round(seconds, 2), len(gone), recall, wrong)


def ours(examples: list[Example]) -> list[tuple[int, int, float]]:
    """Guitarfish's search with its defaults."""
    return [(twin.place, twin.kept, twin.similarity) for twin in near_duplicates(examples, NearDuplicates()).dropped]


def with_datasketch(examples: list[Example]) -> list[tuple[int, int, float]]:
    """MinHash and LSH of datasketch at the same threshold, without an exact check."""
    from datasketch import MinHash, MinHashLSH

    index = MinHashLSH(threshold=NearDuplicates().threshold, num_perm=128)
    dropped = []
    for place, example in enumerate(examples):
        sketch = MinHash(num_perm=128)
        sketch.update_batch([each.encode() for each in shingles(normalise(example.text or ""), Shape("words", 3))])
        like = index.query(sketch)
        if like:
            dropped.append((place, int(like[0]), 0.0))
        else:
            index.insert(str(place), sketch)
    return dropped


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the search for near-duplicates on synthetic rows.")
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="JSON file to write")
    arguments = parser.parse_args()
    examples, pairs = synthetic(arguments.rows, arguments.seed)
    results = [measure("guitarfish", examples, pairs, lambda: ours(examples))]
    alike = templated(arguments.rows // 5)
    results.append(measure("guitarfish, rows of one template", alike, [], lambda: ours(alike)))
    if importlib.util.find_spec("datasketch"):
        results.append(measure("datasketch", examples, pairs, lambda: with_datasketch(examples)))
    print(f"{'way':34} {'rows':>8} {'cpu s':>8} {'dropped':>8} {'recall':>7} {'wrong':>6}")
    for row in results:
        recall = f"{row.recall:7.4f}" if row.recall is not None else f"{'-':>7}"
        print(f"{row.way:34} {row.rows:8,} {row.seconds:8.2f} {row.dropped:8,} {recall} {row.wrong:6}")
    certificates = {}
    for name, rows in (("", examples), (" of one template", alike)):
        border = len(rows) // 10
        started = time.process_time()
        certificate = certify(rows[border:], rows[:border], NearDuplicates())
        seconds = certificates[f"rows{name}"] = round(time.process_time() - started, 2)
        print(
            f"leak certificate, {border:,} rows{name} against {len(rows) - border:,}: {seconds} cpu s, "
            f"{certificate.near_duplicates:,} with a near-duplicate"
        )
    if arguments.out:
        machine = {"processor": platform.processor(), "python": platform.python_version()}
        found = {"results": [asdict(row) for row in results], "certificate_seconds": certificates, "machine": machine}
        arguments.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
