"""What the user reads of an error from a worker."""

from __future__ import annotations

from runspec.errors import GuitarfishError, InterruptedRunError


def own_error(cause: BaseException | None) -> GuitarfishError | None:
    """Our own error in what Ray wrapped around it, if there is one.

    Ray's RayTaskError has the original as `cause` and also derives from its class, but without its `what`: so `cause`
    is followed first.
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
    """The last line of an error's text: in a traceback, the one that says what happened."""
    return next((line.strip() for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__)


def stopped(run_id: str) -> InterruptedRunError:
    return InterruptedRunError(
        "Stopped as you asked; what was finished is kept.", fix=f"Continue with: guitarfish train --resume {run_id}"
    )
