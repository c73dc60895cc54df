"""Errors cross process borders whole, and each class has its exit code."""

from __future__ import annotations

import pickle

import pytest

from runspec import errors


def every_class(kind: type[errors.GuitarfishError] = errors.GuitarfishError) -> list[type[errors.GuitarfishError]]:
    """The class and all below it."""
    return [kind, *(inner for child in kind.__subclasses__() for inner in every_class(child))]


@pytest.mark.parametrize("kind", every_class())
def test_survives_pickling(kind: type[errors.GuitarfishError]) -> None:
    error = pickle.loads(pickle.dumps(kind("what", where="where", fix="fix")))
    assert type(error) is kind
    assert (error.what, error.where, error.fix) == ("what", "where", "fix")
    assert str(error) == "what\n  where: where\n  fix:   fix"


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.SpecError, 2),
        (errors.DataError, 2),
        (errors.RunFailedError, 1),
        (errors.GateError, 3),
        (errors.InterruptedRunError, 130),
    ],
)
def test_exit_codes(kind: type[errors.GuitarfishError], code: int) -> None:
    assert kind("x").exit_code == code
