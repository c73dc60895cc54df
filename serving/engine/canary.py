"""The canary: does a served adapter answer as it did when it was trained? Adapters that load but have no effect are a
known failure (https://github.com/vllm-project/vllm/issues/34186), and so is another tenant's adapter (issue 47724)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

MIN_GAP = 0.25
"""Root mean square of (tuned - base), in nats per token, below which noise decides: training in NF4 and serving in
bfloat16 or float32 changes a log-probability by 0.05 to 0.3."""
MIN_POSITION = 0.5
"""0 is the base model, 1 the tuned model."""
FLOOR = -16.0
"""Lower log-probabilities are raised to this: their exact value is noise, and one would outweigh all the others."""


@dataclass(frozen=True)
class Verdict:
    """The result of replaying a canary.

    Attributes:
        passed: the adapter may answer.
        conclusive: False if the canary's two models are too similar to tell apart.
        position: of the served model on the line from base (0) to tuned (1).
        gap: root mean square of tuned - base, in nats per token.
        distance: root mean square of served - tuned, in nats per token.
        reason: a clause for the log or for the client.
    """

    passed: bool
    conclusive: bool
    position: float
    gap: float
    distance: float
    reason: str


def judge(served: Sequence[float], tuned: Sequence[float], base: Sequence[float]) -> Verdict:
    """Compare log-probabilities of the canary's answer tokens, in nats: as served, as trained, as of the base model.

    The served model passes if it is closer to the tuned model than to the base (projected on the line between them,
    which is the same as comparing the two Euclidean distances) and no further from the tuned model than the base is
    (which another adapter's answers would be).

    Raises:
        ValueError: the three differ in length, or are empty.
    """
    if not len(served) == len(tuned) == len(base) or not served:
        raise ValueError(f"a canary needs equally many values of each, not {len(served)}, {len(tuned)}, {len(base)}")
    s, t, b = (_cut(values) for values in (served, tuned, base))
    gap = _rms([x - y for x, y in zip(t, b, strict=True)])
    distance = _rms([x - y for x, y in zip(s, t, strict=True)])
    if gap < MIN_GAP:
        reason = f"the canary is inconclusive: tuned and base differ by {gap:.2f} nats per token, less than {MIN_GAP}"
        return Verdict(True, False, math.nan, gap, distance, reason)
    along = sum((x - z) * (y - z) for x, y, z in zip(s, t, b, strict=True))
    position = along / (len(s) * gap**2)
    if position < MIN_POSITION:
        reason = f"it answers like the base model ({position:.2f} on the scale from base, 0, to tuned, 1)"
        return Verdict(False, True, position, gap, distance, reason)
    if distance > gap:
        reason = (
            f"its answers are {distance:.2f} nats per token from the tuned model's, further than the base's {gap:.2f}"
        )
        return Verdict(False, True, position, gap, distance, reason)
    return Verdict(True, True, position, gap, distance, f"{position:.2f} on the scale from base, 0, to tuned, 1")


def _cut(values: Sequence[float]) -> list[float]:
    return [max(value, FLOOR) if math.isfinite(value) else FLOOR for value in values]


def _rms(values: Sequence[float]) -> float:
    return math.sqrt(sum(value * value for value in values) / len(values))
