"""The hold-out: which rows are never trained on, by a hash, so that machine and order do not matter."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence

from runspec.errors import DataError
from training.data.example import Example

SALT = "guitarfish hold-out"
"""Makes the split independent of every other use of the same hashes. Changing it changes every split."""


def split_holdout(examples: Sequence[Example], fraction: float, links: Sequence[tuple[int, int]] = ()) -> list[bool]:
    """Which examples are held out: those whose group (row, without groups) hashes below `fraction`.

    A group's side depends on nothing but its own name, so it stays the same when rows are added. Groups that links
    tie together are one, called by the first of their names. Where the hash leaves a side empty, the group nearest to
    the border changes sides.

    Args:
        examples: all with a group, or all without.
        fraction: share of the groups to hold out, met on average.
        links: places of examples that no side may part, such as near-duplicates. Groups tied to more rows than the
            whole hold-out should have are trained on: held out they would be most of what is measured.

    Returns:
        One flag an example.

    Raises:
        DataError: fewer than two groups, so one side would be empty.
    """
    names = [_key(example) for example in examples]
    tied = tie(names, links)
    keys = [tied.get(name, name) for name in names]
    places = {key: _place(key) for key in keys}
    if len(places) < 2:
        raise _cannot_split(examples, bool(links))
    rows = Counter(tied[name] for name in names if name in tied)
    places |= {key: 1.0 for key, count in rows.items() if count > max(1, fraction * len(examples))}
    held = {key for key, place in places.items() if place < fraction}
    if not held:
        held = {min(places, key=lambda key: (places[key], key))}
    elif len(held) == len(places):
        held.remove(max(places, key=lambda key: (places[key], key)))
    return [key in held for key in keys]


def tie(names: Sequence[str], links: Sequence[tuple[int, int]]) -> dict[str, str]:
    """For each name that a link ties to another, the first in the alphabet of all that it is tied to (union-find)."""
    parents: dict[str, str] = {}

    def first(name: str) -> str:
        while parents.get(name, name) != name:
            parents[name] = parents.get(parents[name], parents[name])
            name = parents[name]
        return name

    for left, right in links:
        low, high = sorted((first(names[left]), first(names[right])))
        if low != high:
            parents[high] = low
            parents.setdefault(low, low)
    return {name: first(name) for name in parents}


def _key(example: Example) -> str:
    return f"row {example.digest}" if example.group is None else f"group {example.group}"


def _place(key: str) -> float:
    """A number in [0, 1), uniform over keys."""
    return hash64(f"{SALT}|{key}") / 2**64


def hash64(text: str) -> int:
    """64 bits of sha256: the same on every machine, unlike Python's `hash`."""
    return int.from_bytes(hashlib.sha256(text.encode(errors="surrogatepass")).digest()[:8], "big")


def _cannot_split(examples: Sequence[Example], are_linked: bool) -> DataError:
    if examples and examples[0].group is not None:
        named = f"of one group, {examples[0].group!r}" if not are_linked else "tied together by near-duplicates"
        what = f"All {len(examples)} rows are {named}, so none would be left to train on."
        return DataError(what, where="data.holdout.group_key", fix="Name a column with more values, or null.")
    rows = "1 good row" if len(examples) == 1 else f"{len(examples)} good rows, all alike,"
    return DataError(
        f"{rows} cannot be split into training data and hold-out.",
        where="data.holdout",
        fix="Add rows, or name a hold-out: `{kind: source, source: ...}`.",
    )


def check_apart(train: Sequence[Example], holdout: Sequence[Example]) -> None:
    """Check that a hold-out of its own shares no row with the training data.

    Raises:
        DataError: it does; with how many, and where the first of them are.
    """
    trained = {example.digest: example.origin for example in train}
    shared = [(example.origin, trained[example.digest]) for example in holdout if example.digest in trained]
    if shared:
        pairs = "".join(f"\n  - {held} is also {origin}" for held, origin in shared[:5])
        what = f"{len(shared)} of the {len(holdout)} held-out rows are in the training data too:{pairs}"
        fix = "Remove them from one of the two, or split one source with `data.holdout: {kind: split}`."
        raise DataError(what, where="data.holdout.source", fix=fix)
