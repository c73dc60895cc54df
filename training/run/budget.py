"""The budget of a run: which one applies, whether it is spent, and the errors. Decided from numbers alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from cluster.billing.ledger import Attempt, total_cost
from cluster.billing.prices import Price
from runspec.budget import BudgetSpec
from runspec.errors import BudgetError, UserError


@dataclass(frozen=True)
class Budget:
    """What a run may cost, and what it cost before this driver started.

    Attributes:
        limit_usd: most that all attempts may cost together; None: no limit.
        earlier_usd: what the attempts of earlier drivers cost, failed ones too.
    """

    limit_usd: float | None = None
    earlier_usd: float = 0.0

    def reached(self, usd: float) -> bool:
        """Whether it is spent, where this driver's own attempts have cost `usd`."""
        return spent_out(self.earlier_usd + usd, self.limit_usd)


UNLIMITED = Budget()


def spent_out(spent_usd: float, budget_usd: float | None) -> bool:
    """Whether what all attempts have cost, failed ones included, has reached the budget."""
    return budget_usd is not None and spent_usd >= budget_usd


def budget_of(written: BudgetSpec | None, attempts: Sequence[Attempt], asked_usd: float | None = None) -> Budget:
    """The budget that applies: the command line's, else the last attempt's, else the run file's.

    Args:
        written: the run file's.
        attempts: of the run so far, in order.
        asked_usd: the command line's.
    """
    recorded = [attempt.start.budget_usd for attempt in attempts if attempt.start.budget_usd is not None]
    last = recorded[-1] if recorded else (written.max_usd if written else None)
    return Budget(last if asked_usd is None else asked_usd, total_cost(attempts).usd)


def check_price(budget: Budget, price: Price) -> None:
    """Check that the budget can be reached at all.

    Raises:
        UserError: an hour costs nothing, so nothing would ever stop the run.
    """
    if budget.limit_usd is not None and price.usd_per_hour <= 0:
        raise UserError(
            f"The budget is ${budget.limit_usd:g}, but an hour counts as $0: it would never stop the run.",
            where=f"budget.max_usd; {price.source}",
            fix="Set hardware.price_usd_per_hour to what all workers together cost, or leave the budget out.",
        )


def check_left(budget: Budget, run_id: str) -> None:
    """Check that some of the budget is left for one more attempt.

    Raises:
        BudgetError: it is spent.
    """
    if budget.reached(0.0):
        raise BudgetError(
            f"The budget of ${budget.limit_usd:g} is spent: ${budget.earlier_usd:.4f} so far.",
            where="budget.max_usd",
            fix=_with_more(run_id, budget.earlier_usd),
        )


def check_plan(budget: Budget, usd: float, low: float, high: float) -> str:
    """Compare the plan's estimate with the budget, before anything is spent.

    Args:
        usd: the estimate.
        low, high: factors on it: the least and the most that the run may cost.

    Returns:
        A warning for the user; empty where the estimate is within the budget.

    Raises:
        BudgetError: the budget is below even the lowest estimate.
    """
    limit = budget.limit_usd
    estimate = f"${usd:.4f} (${low * usd:.4f} to ${high * usd:.4f})"
    if limit is None or usd <= limit:
        return ""
    if low * usd <= limit:
        return f"the plan's estimate is {estimate}, the budget ${limit:g}: it may end the run before it is done"
    raise BudgetError(
        f"The budget is ${limit:g}, but the plan's estimate is {estimate}: the run would be stopped before it is done.",
        where="budget.max_usd",
        fix=f"--budget {rounded(high * usd)} covers the highest estimate; or train less: guitarfish plan --explain "
        "shows what takes the time.",
    )


def over_budget(run_id: str, budget: Budget, usd: float, kept_step: int | None) -> BudgetError:
    """The error of a run that its budget stopped.

    Args:
        usd: what this driver's attempts cost.
        kept_step: the step of the last checkpoint; None before the first.
    """
    spent = budget.earlier_usd + usd
    kept = "what was finished is kept" if kept_step is None else f"the checkpoint of step {kept_step} is kept"
    return BudgetError(
        f"The budget of ${budget.limit_usd:g} is spent: ${spent:.4f} so far; {kept}.",
        where="budget.max_usd",
        fix=_with_more(run_id, spent),
    )


def _with_more(run_id: str, spent_usd: float) -> str:
    return f"Continue with more: guitarfish train --resume {run_id} --budget {rounded(2 * spent_usd)}"


def rounded(usd: float) -> str:
    """Dollars rounded up to two significant digits, as they are typed: `0.53`, `1200`."""
    place = math.floor(math.log10(usd)) - 1
    return f"{math.ceil(usd / 10**place) * 10**place:.{max(0, -place)}f}"
