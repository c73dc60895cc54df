"""What of a run only the machine has that it is submitted from: a cluster elsewhere could not reach it."""

from __future__ import annotations

from typing import NamedTuple

from runspec.paths import PACKAGE
from runspec.run import RunSpec

_PACKAGED = "put it into a package that the cluster has installed, and name it package:NAME/inside"


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
    """What the workers would miss on other machines. Data is none of it: it goes into the store before a run starts.

    Args:
        spec: of a run that is in the store, or is about to be put there.
    """
    found = [OnlyHere(key, value, _PACKAGED) for key, value in _files(spec) if value and not value.startswith(PACKAGE)]
    source = spec.model.source
    if source.kind != "hub" and not source.path.startswith(PACKAGE):
        fix = "name a model of the hub, or package:NAME/inside of a package that the cluster has installed"
        found.insert(0, OnlyHere("model.source.path", source.path, fix))
    if is_local(spec.store):
        found.insert(0, OnlyHere("store", spec.store, "set store to s3://bucket/prefix, which the cluster reaches too"))
    return found


def _files(spec: RunSpec) -> list[tuple[str, str | None]]:
    """Files that workers read besides the model: dotted key and path."""
    files = [("model.chat_template", spec.model.chat_template)]
    for number, scorer in enumerate(spec.evaluation.scorers):
        if scorer.kind == "json":
            files.append((f"evaluation.scorers[{number}].schema_path", scorer.schema_path))
        if scorer.kind == "custom":
            files.append((f"evaluation.scorers[{number}].folder", scorer.folder))
    general = spec.evaluation.general
    if general is not None and general.source is not None and general.source.kind != "hub":
        files.append(("evaluation.general.source.path", general.source.path))
    return files


def is_local(store: str) -> bool:
    """Whether a store is a folder of this machine."""
    return "://" not in store or store.lower().startswith("file:")
