"""A scorer of the user's own: `module:function`, looked for beside the run file first."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import math
import numbers
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any

from runspec.errors import SpecError

WANTED = "def {name}(prompt: list[dict], answer: str, reference: str) -> float"


class CustomError(SpecError):
    """The function raised, or returned something that is no number. The caller adds which example it was."""


@dataclass(frozen=True)
class CustomFunction:
    """A loaded function that is held to its contract each time it is called."""

    name: str
    """`module:function`, as the run file has it."""
    function: Callable[..., Any]

    @property
    def metric(self) -> str:
        """The function's name."""
        return self.name.rpartition(":")[2]

    def __call__(self, prompt: list[dict[str, Any]], answer: str, reference: str) -> float:
        """Call the function.

        Raises:
            CustomError: it raised, or returned no finite number.
        """
        try:
            value = self.function([dict(message) for message in prompt], answer, reference)
        except Exception as error:  # whatever the user's code raises
            raise CustomError(
                f"the scorer {self.name} raised {type(error).__name__}: {error}",
                where=_line_of(error),
                fix="Mend the function; it gets answers of every kind, empty ones too.",
            ) from error
        return self._number(value)

    def _number(self, value: Any) -> float:
        plain = value.item() if hasattr(value, "item") and getattr(value, "size", 1) == 1 else value
        if isinstance(plain, numbers.Real) and math.isfinite(plain):
            return float(plain)
        raise CustomError(
            f"the scorer {self.name} returned {value!r}, which is not a finite number",
            where=_defined_at(self.function),
            fix="Return a float; higher is better.",
        )


def load_function(name: str, folder: Path) -> CustomFunction:
    """Import `module:function`.

    Args:
        name: as the run file has it.
        folder: the run file's folder.

    Raises:
        SpecError: the module or the function is not there, the module cannot be imported, or the function does not
            take (prompt, answer, reference).
    """
    module_name, _, function_name = name.partition(":")
    module = _load_module(module_name, folder)
    function = getattr(module, function_name, None)
    where = f"evaluation.scorers: {name}"
    if not callable(function):
        own = [key for key, value in vars(module).items() if inspect.isfunction(value) and not key.startswith("_")]
        near = get_close_matches(function_name, own, n=1)
        raise SpecError(
            f"the module {module_name} has no function {function_name!r}",
            where=f"{where} ({getattr(module, '__file__', module_name)})",
            fix=f"Did you mean {near[0]!r}?" if near else "Add: " + WANTED.format(name=function_name),
        )
    _check_arity(function, name)
    return CustomFunction(name, function)


def _check_arity(function: Callable[..., Any], name: str) -> None:
    try:
        signature = inspect.signature(function)
    except ValueError:  # some functions written in C have none
        return
    try:
        signature.bind([], "", "")
    except TypeError:
        raise SpecError(
            f"the scorer {name} takes {signature}, and is called with (prompt, answer, reference)",
            where=_defined_at(function),
            fix=WANTED.format(name=name.rpartition(":")[2]),
        ) from None


def _load_module(name: str, folder: Path) -> ModuleType:
    beside = folder / f"{name}.py"
    try:
        with _first_on_path(folder):
            return _from_file(name, beside) if beside.is_file() else importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise SpecError(
                f"there is no module {name!r}",
                where=f"evaluation.scorers: {folder}",
                fix=f"Put {name.replace('.', '/')}.py beside the run file, or install the package that has it.",
            ) from None
        raise _broken(name, error) from error
    except Exception as error:  # importing runs the user's code
        raise _broken(name, error) from error


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


@contextmanager
def _first_on_path(folder: Path) -> Iterator[None]:
    """Modules beside the run file can be imported, while this one is."""
    entry = str(folder.resolve())
    sys.path.insert(0, entry)
    try:
        yield
    finally:
        sys.path.remove(entry)


def _broken(name: str, error: Exception) -> SpecError:
    return SpecError(
        f"the module {name} cannot be imported: {type(error).__name__}: {error}",
        where=_line_of(error),
        fix="Mend the module, or install what it imports.",
    )


def _line_of(error: Exception) -> str:
    """File and line where an error arose."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""


def _defined_at(function: Callable[..., Any]) -> str:
    code = getattr(function, "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code else repr(function)
