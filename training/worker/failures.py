"""Finding our own error in what Ray wraps around it, and the line that says most in what is not ours."""

from __future__ import annotations

from runspec.errors import GuitarfishError, InterruptedRunError


def own_error(cause: BaseException | None) -> GuitarfishError | None:
    """The error of ours in a chain of wrappers, if there is one.

    Ray's RayTaskError carries the original as `cause` and also derives from its class, so that its `what` may be
    missing: the original is looked for first.
    """
    seen: set[int] = set()
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        inner = getattr(cause, "cause", None)
        if isinstance(inner, BaseException):
            cause = inner
        elif isinstance(cause, GuitarfishError):
            return cause
        else:
            cause = cause.__cause__
    return None


def last_line(error: BaseException) -> str:
    """The last line of an error's text: of a carried traceback, the one that says what happened."""
    return next((line.strip() for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__)


def stopped(run_id: str) -> InterruptedRunError:
    """What the user reads after Ctrl-C."""
    return InterruptedRunError(
        "Stopped as you asked; what was finished is kept.", fix=f"Continue with: guitarfish train --resume {run_id}"
    )
