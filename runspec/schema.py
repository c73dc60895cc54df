"""The run file's JSON Schema, for editors and other programs."""

from __future__ import annotations

from typing import Any

from runspec.run import RunSpec


def json_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a run file, with the fields' descriptions; unknown keys are not allowed.

    Where a section has several kinds, `kind` is required, as loading requires it (pydantic leaves it out, because it
    has a default for use from Python).
    """
    schema = RunSpec.model_json_schema()
    for name in _tagged(schema):
        definition = schema["$defs"][name]
        definition["required"] = ["kind", *definition.get("required", [])]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **_without_titles(schema)}


def _tagged(node: Any) -> set[str]:
    """Names of the definitions that a discriminator chooses from; the discriminator, OpenAPI's word, is taken out."""
    found: set[str] = set()
    if isinstance(node, dict):
        mapping = node.pop("discriminator", {}).get("mapping", {})
        found |= {reference.rpartition("/")[2] for reference in mapping.values()}
    for inner in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        found |= _tagged(inner)
    return found


def _without_titles(node: Any) -> Any:
    """Pydantic titles every key with its own name again."""
    if isinstance(node, dict):
        return {
            name: _without_titles(inner)
            for name, inner in node.items()
            if not (name == "title" and isinstance(inner, str))
        }
    return [_without_titles(inner) for inner in node] if isinstance(node, list) else node
