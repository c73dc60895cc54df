"""What a run needs and only the machine has that submits it: workers of a cluster could not reach it."""

from __future__ import annotations

from typing import NamedTuple

from runspec.paths import PACKAGE
from runspec.run import RunSpec
from runspec.tree import dotted, paths_in

_PACKAGED = "Put it into a package that the cluster has installed, and name it package:NAME/inside."
_MODEL = "Name a model of the hub, or package:NAME/inside of a package that the cluster has installed."


class OnlyHere(NamedTuple):
    """One value that ties a run to a machine.

    Attributes:
        key: dotted.
        value: as the run file has it.
        fix: what would do instead.
    """

    key: str
    value: str
    fix: str


def only_here(spec: RunSpec) -> list[OnlyHere]:
    """What workers on other machines could not read. Not the data: it is put into the store before a run starts.

    Args:
        spec: of a run that is in the store, or is about to be put there.
    """
    found = []
    if is_local(spec.store):
        found.append(
            OnlyHere("store", spec.store, "Set `store` to s3://bucket/prefix, which the cluster can reach too.")
        )
    for path, value in paths_in(spec):
        if path[0] != "data" and not value.startswith(PACKAGE):
            found.append(OnlyHere(dotted(path), value, _MODEL if path == ("model", "source", "path") else _PACKAGED))
    return found


def is_local(store: str) -> bool:
    """Whether a store is a folder of this machine."""
    return "://" not in store or store.lower().startswith("file:")
