"""A scorer of the user's own: `module:function`, looked for beside the run file first."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import math
import numbers
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any

from runspec.errors import SpecError

WHERE = "evaluation.scorers"
WANTED = "`def {name}(prompt: list[dict], answer: str, reference: str) -> float`"


class CustomError(SpecError):
    """The function raised, or did not return a number. The caller adds the example it was called with."""


@dataclass(frozen=True)
class CustomAnswerScorer:
    name: str
    """`module:function`, as the run file has it."""
    function: Callable[..., Any]

    @property
    def metrics(self) -> tuple[str, ...]:
        return (self.name.rpartition(":")[2],)

    def score(self, prompt: list[dict[str, Any]], answer: str, reference: str) -> dict[str, float]:
        """Raises CustomError."""
        try:
            value = self.function([dict(message) for message in prompt], answer, reference)
        except Exception as error:  # whatever the user's code raises
            raise CustomError(
                f"The scorer `{self.name}` raised {type(error).__name__}: {error}",
                where=_line_of(error),
                fix="Fix the function; it gets answers of every kind, empty ones too.",
            ) from error
        plain = value.item() if hasattr(value, "item") and getattr(value, "size", 1) == 1 else value
        if not isinstance(plain, numbers.Real) or not math.isfinite(plain):
            raise CustomError(
                f"The scorer `{self.name}` returned {value!r}, which is not a finite number.",
                where=_defined_at(self.function),
                fix="Return a float; higher is better.",
            )
        return {self.metrics[0]: float(plain)}

    def objection(self, reference: str) -> str | None:
        return None


def load_scorer(name: str, folder: Path) -> CustomAnswerScorer:
    """Import `module:function`, from the run file's folder if it is there.

    Raises:
        SpecError: the module or the function is not found, the module cannot be imported, or the function does not
            take (prompt, answer, reference).
    """
    module_name, _, function_name = name.partition(":")
    module = _load_module(module_name, folder)
    function = getattr(module, function_name, None)
    if not callable(function):
        own = [key for key, value in vars(module).items() if inspect.isfunction(value) and not key.startswith("_")]
        near = get_close_matches(function_name, own, n=1)
        raise SpecError(
            f"Module `{module_name}` has no function `{function_name}`.",
            where=f"{WHERE}: {name} ({getattr(module, '__file__', module_name)})",
            fix=f"Did you mean `{near[0]}`?" if near else f"Add {WANTED.format(name=function_name)}.",
        )
    try:
        signature = inspect.signature(function)
    except ValueError:  # some functions written in C have none
        return CustomAnswerScorer(name, function)
    try:
        signature.bind([], "", "")
    except TypeError:
        raise SpecError(
            f"The scorer `{name}` takes {signature}, but is called with (prompt, answer, reference).",
            where=_defined_at(function),
            fix=f"Define it as {WANTED.format(name=function_name)}.",
        ) from None
    return CustomAnswerScorer(name, function)


def _load_module(name: str, folder: Path) -> ModuleType:
    beside = folder / f"{name}.py"
    entry = str(folder.resolve())
    sys.path.insert(0, entry)  # the scorer may import what lies beside it
    try:
        return _from_file(name, beside) if beside.is_file() else importlib.import_module(name)
    except Exception as error:  # importing runs the user's code
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing is not None and (name == missing or name.startswith(f"{missing}.")):
            raise SpecError(
                f"Module `{name}` not found.",
                where=f"{WHERE}: {folder}",
                fix=f"Put {name.replace('.', '/')}.py beside the run file, or install the package that has it.",
            ) from None
        raise SpecError(
            f"Module `{name}` cannot be imported: {type(error).__name__}: {error}",
            where=_line_of(error),
            fix="Fix the module, or install what it imports.",
        ) from error
    finally:
        sys.path.remove(entry)


def _from_file(name: str, file: Path) -> ModuleType:
    """Load a file under a name of its own, so that `json.py` beside a run file does not replace Python's."""
    private = f"_guitarfish_scorer_{name}"
    spec = importlib.util.spec_from_file_location(private, file)
    assert spec is not None  # a .py file always has a loader
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[private] = module  # dataclasses and pickle look a class's module up there
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[private]
        raise
    return module


def _line_of(error: Exception) -> str:
    """File and line where an error arose."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""


def _defined_at(function: Callable[..., Any]) -> str:
    code = getattr(function, "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code else repr(function)
