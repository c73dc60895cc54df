"""A manifest as YAML that people read: keys in their order, texts of several lines as such."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml


class _Dumper(yaml.SafeDumper):
    """Without anchors, which would stand for equal lists of labels."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = "|" if "\n" in value else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)


def manifest_text(manifest: Mapping[str, Any]) -> str:
    """The manifest as YAML, for `kubectl apply --server-side -f -` and for people."""
    return yaml.dump(dict(manifest), Dumper=_Dumper, sort_keys=False, width=120)
