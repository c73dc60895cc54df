"""Balance: which training rows stay so that no value of a column outweighs the others."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from runspec.curation import Balance
from runspec.errors import DataError
from training.curation.holdout import hash64
from training.data.example import Example


def most_per_value(counts: Mapping[str, int], spec: Balance) -> int:
    """Rows of one value that may stay.

    Args:
        counts: rows by value.

    Raises:
        DataError: there are too few values for the share: with two, one has at least half of the rows.
    """
    match spec.kind:
        case "equal":
            return min(counts.values())
        case "cap":
            return spec.max_rows
        case "share":
            if len(counts) * spec.max_share < 1:
                listed = ", ".join(f"{value!r} ({count:,} rows)" for value, count in list(counts.items())[:5])
                raise DataError(
                    f"No value of {spec.column!r} may have more than {spec.max_share:.0%} of the rows, but the column "
                    f"has only {len(counts)}: {listed}.",
                    where="data.curation.balance.max_share",
                    fix=f"Raise it to at least {1 / len(counts):.2f}, or balance by a column with more values.",
                )
            return _largest_cap(list(counts.values()), spec.max_share)


def _largest_cap(counts: list[int], share: float) -> int:
    """The largest number c such that c of a value are at most `share` of all rows when no value has more than c.

    c / (rows left) grows with c, so the border is found by halving. At c = min(counts) every value has c rows.
    """
    low, high = min(counts), max(counts)
    while low < high:
        middle = (low + high + 1) // 2
        if middle <= share * sum(min(count, middle) for count in counts):
            low = middle
        else:
            high = middle - 1
    return low


def over_balance(examples: Sequence[Example], spec: Balance, seed: int) -> dict[int, str]:
    """Places of the training rows to leave out, with the reason; chosen by seed and content, whatever their order.

    Raises:
        DataError: as `most_per_value`.
    """
    places: dict[str, list[int]] = defaultdict(list)
    for place, example in enumerate(examples):
        places[example.stratum or ""].append(place)
    counts = Counter({value: len(found) for value, found in places.items()})
    most = most_per_value(dict(counts.most_common()), spec)
    gone: dict[int, str] = {}
    for value, found in places.items():
        ranked = sorted(found, key=lambda place: (hash64(f"{seed}|balance|{examples[place].digest}"), place))
        reason = f"{spec.column} {value!r} has {len(found):,} rows, {most:,} of them stay"
        gone |= dict.fromkeys(ranked[most:], reason)
    return gone
