"""The canary: does a served adapter act as it did when it was trained? Loading without acting is a known failure
(https://github.com/vllm-project/vllm/issues/34186), and so is another tenant's adapter (issue 47724)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

MIN_GAP = 0.25
"""Root mean square of (tuned - base), in nats a token, below which noise decides: training in NF4 and serving in
bfloat16 or float32 moves a log-probability by 0.05 to 0.3."""
MIN_POSITION = 0.5
"""0 is the base model, 1 the tuned one: halfway is as near to one as to the other."""
FLOOR = -16.0
"""Log-probabilities below are cut here: their exact value is noise, and one of them would outweigh all the others."""


@dataclass(frozen=True)
class Verdict:
    """What replaying a canary showed.

    Attributes:
        passed: the adapter may answer.
        conclusive: False where the canary's two models are too alike to tell apart.
        position: where the served model stands on the line from base (0) to tuned (1).
        gap: root mean square of tuned - base, in nats a token.
        distance: root mean square of served - tuned, in nats a token.
        reason: one sentence for the log or for the client.
    """

    passed: bool
    conclusive: bool
    position: float
    gap: float
    distance: float
    reason: str


def judge(served: Sequence[float], tuned: Sequence[float], base: Sequence[float]) -> Verdict:
    """Compare log-probabilities of the canary's answer tokens, in nats: as served, as trained, as of the base model.

    The served model passes where it is nearer to the tuned model than to the base (projected on the line between
    them, which is the same as comparing the two Euclidean distances) and not further from the tuned model than the
    base is (which another adapter's answers would be).

    Raises:
        ValueError: the three differ in length, or are empty.
    """
    if not len(served) == len(tuned) == len(base) or not served:
        raise ValueError(f"a canary needs as many values of each: {len(served)}, {len(tuned)}, {len(base)}")
    s, t, b = (_cut(values) for values in (served, tuned, base))
    gap = _rms([x - y for x, y in zip(t, b, strict=True)])
    distance = _rms([x - y for x, y in zip(s, t, strict=True)])
    if gap < MIN_GAP:
        return Verdict(True, False, math.nan, gap, distance, _inconclusive(gap))
    along = sum((x - z) * (y - z) for x, y, z in zip(s, t, b, strict=True))
    position = along / (len(s) * gap**2)
    if position < MIN_POSITION:
        reason = f"it answers like the base model (at {position:.2f} on the way from base 0 to tuned 1)"
        return Verdict(False, True, position, gap, distance, reason)
    if distance > gap:
        reason = (
            f"its answers are {distance:.2f} nats a token from the tuned model's, further than the base's {gap:.2f}"
        )
        return Verdict(False, True, position, gap, distance, reason)
    return Verdict(True, True, position, gap, distance, f"it acts (at {position:.2f} from base 0 to tuned 1)")


def _inconclusive(gap: float) -> str:
    return f"the canary cannot tell: tuned and base differ by {gap:.2f} nats a token only, below {MIN_GAP}"


def _cut(values: Sequence[float]) -> list[float]:
    return [max(value, FLOOR) if math.isfinite(value) else FLOOR for value in values]


def _rms(values: Sequence[float]) -> float:
    return math.sqrt(sum(value * value for value in values) / len(values))
