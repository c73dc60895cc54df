"""The errors of Guitarfish: what is wrong, where, and the fix.

One small tree, so that the command line maps a class to an exit code and nothing else has to. Ray carries
exceptions between processes by pickling them, hence `__reduce__`: an exception with keyword-only arguments does
not survive pickling by itself.
"""

from __future__ import annotations

from typing import Any

from runspec.secrets import redact


class GuitarfishError(Exception):
    """Base of every error raised on purpose. Its texts are printed, logged and stored, so secrets are taken out.

    Args:
        what: what is wrong, in one sentence, quoting the offending value.
        where: file and line, dotted key, row number or store path; empty when there is no place.
        fix: what the user can do about it; empty when nothing is known.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: str = "", fix: str = "") -> None:
        self.what = redact(what)
        super().__init__(self.what)
        self.where = redact(where)
        self.fix = redact(fix)

    def __str__(self) -> str:
        lines = [self.what]
        if self.where:
            lines.append(f"  where: {self.where}")
        if self.fix:
            lines.append(f"  fix:   {self.fix}")
        return "\n".join(lines)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.what, self.where, self.fix)


def _rebuild(kind: type[GuitarfishError], what: str, where: str, fix: str) -> GuitarfishError:
    return kind(what, where=where, fix=fix)


class UserError(GuitarfishError):
    """Something the user can fix: printed without a traceback, exit code 2."""

    exit_code = 2


class SpecError(UserError):
    """The run file is not valid."""


class DataError(UserError):
    """The data cannot be read, or a row of it is not valid."""


class ModelError(UserError):
    """The base model cannot be loaded, or does not fit what the run file asks for."""


class StoreError(UserError):
    """The store cannot be reached, or what it holds is damaged."""


class RegistryError(UserError):
    """An adapter, a version or an alias is missing, taken or damaged."""


class ServingError(UserError):
    """The server cannot be started as asked."""


class HardwareError(UserError):
    """This machine or cluster lacks what the run needs."""


class ConflictError(GuitarfishError):
    """Another writer was first (exclusive create or compare-and-set lost). Retrying is the caller's choice."""


class RunFailedError(GuitarfishError):
    """A run ended without a result: exit code 1."""


class GateError(GuitarfishError):
    """The tuned model did not pass the gate: kept, not published, exit code 3."""

    exit_code = 3


class BudgetError(GuitarfishError):
    """The budget ended what was going on; what was finished is kept. Exit code 4."""

    exit_code = 4


class InterruptedRunError(GuitarfishError):
    """The user stopped the run; it can be resumed. Exit code 130, as shells expect after Ctrl-C."""

    exit_code = 130
