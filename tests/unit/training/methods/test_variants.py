"""Every method and strategy of the run file has its module, with all that worker and launcher will call."""

from __future__ import annotations

import inspect
import typing

import pytest

from runspec import method as methods
from runspec import strategy as strategies
from training.methods.method import TrainingMethod, load_method
from training.strategies.strategy import TrainingStrategy, load_strategy


def variants(union: typing.Any) -> list[typing.Any]:
    union = typing.get_args(union)[0] if typing.get_origin(union) is typing.Annotated else union
    return list(typing.get_args(union))


def functions(protocol: type) -> dict[str, inspect.Signature]:
    return {
        name: inspect.signature(member)
        for name, member in vars(protocol).items()
        if inspect.isfunction(member) and not name.startswith("_")
    }


def check(module: typing.Any, protocol: type) -> None:
    for name, signature in functions(protocol).items():
        wanted = [parameter for parameter in signature.parameters if parameter != "self"]
        assert list(inspect.signature(getattr(module, name)).parameters) == wanted, f"{module.__name__}.{name}"


@pytest.mark.parametrize("variant", variants(methods.Method))
def test_a_method_has_its_module(variant: typing.Any) -> None:
    check(load_method(variant.model_fields["kind"].default), TrainingMethod)
    assert variant.layouts


@pytest.mark.parametrize("variant", variants(strategies.Concrete))
def test_a_strategy_has_its_module(variant: typing.Any) -> None:
    check(load_strategy(variant()), TrainingStrategy)
