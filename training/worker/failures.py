"""What the user reads of an error from a worker."""

from __future__ import annotations

from pathlib import Path

from runspec.errors import GuitarfishError, InterruptedRunError, RunFailedError
from training.worker.output import tail


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


def worker_failed(cause: BaseException, worker: str, log_file: Path, run_id: str) -> GuitarfishError:
    """Our own error in `cause`, or else one with the end of the worker's log."""
    own = own_error(cause)
    if own is not None:
        return own
    lines = "\n".join(f"    {line}" for line in tail(log_file))
    return RunFailedError(
        f"{worker} failed: {last_line(cause)}" + (f"\n  last lines of its log:\n{lines}" if lines else ""),
        where=str(log_file),
        fix=f"Fix the cause, then run: guitarfish train --resume {run_id}",
    )


def last_line(error: BaseException) -> str:
    """The last line of an error's text: in a traceback, the one that says what happened."""
    return next((line.strip() for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__)


def stopped(run_id: str) -> InterruptedRunError:
    return InterruptedRunError(
        "Stopped as requested; what was finished is kept.", fix=f"Continue with: guitarfish train --resume {run_id}"
    )
