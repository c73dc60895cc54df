"""What a run may cost at most."""

from __future__ import annotations

from pydantic import Field

from runspec.strict import Strict


class BudgetSpec(Strict):
    """A run that reaches its budget stops with a checkpoint, and can be continued with a larger one. A search has
    its own, `tuning.budget_usd`."""

    max_usd: float = Field(gt=0)
    """Most that all attempts of the run, failed ones included, may cost together."""
