"""Checks of Kubernetes objects: core kinds against the published schemas, Ray kinds against KubeRay's definitions.

The definitions lie beside the repository where they are at all (they are long, and not ours); without them the checks
of Ray kinds are skipped.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

ROOT = Path(__file__).parents[2]
KUBERNETES = "1.33"
PRESERVE = "x-kubernetes-preserve-unknown-fields"
FILES = {"RayJob": "rayjobs", "RayService": "rayservices", "RayCluster": "rayclusters"}


def definitions() -> Path | None:
    """The folder of KubeRay's definitions: ../shared/crds of the repository, or of the one this is a worktree of."""
    return next((each for parent in ROOT.parents if (each := parent / "shared" / "crds").is_dir()), None)


@cache
def closed_schema(kind: str) -> dict[str, Any]:
    """The schema of a Ray kind in which every key has to be known, as the API server's strict validation asks."""
    folder = definitions()
    if folder is None:
        pytest.skip("KubeRay's definitions are not here")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    definition = yaml.load((folder / f"ray.io_{FILES[kind]}.yaml").read_text(), Loader=loader)
    [version] = [each for each in definition["spec"]["versions"] if each["name"] == "v1"]
    schema = version["schema"]["openAPIV3Schema"]
    schema["properties"]["metadata"] = {"type": "object"}
    return _closed(schema)


def _closed(schema: Any) -> Any:
    """Close objects whose properties are listed, everywhere but where unknown ones are kept."""
    if isinstance(schema, list):
        return [_closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get(PRESERVE) or schema.get("x-kubernetes-embedded-resource"):
        return schema
    closed = {
        key: {name: _closed(each) for name, each in value.items()} if key == "properties" else _closed(value)
        for key, value in schema.items()
    }
    if "properties" in closed and "additionalProperties" not in closed:
        closed["additionalProperties"] = False
    return closed


def problems_of_ray(manifest: dict[str, Any]) -> list[str]:
    """What KubeRay's definition of the kind does not allow."""
    checked = jsonschema.Draft202012Validator(closed_schema(manifest["kind"]))
    found = [f"{error.json_path}: {error.message[:200]}" for error in checked.iter_errors(manifest)]
    return found + problems_of_pods(manifest)


def problems_of_pods(manifest: dict[str, Any]) -> list[str]:
    """What Kubernetes does not allow in the pod templates inside, which KubeRay's definitions do not all say."""
    cluster = manifest["spec"].get("rayClusterSpec") or manifest["spec"].get("rayClusterConfig")
    templates = [cluster["headGroupSpec"]["template"], *(each["template"] for each in cluster["workerGroupSpecs"])]
    if "submitterPodTemplate" in manifest["spec"]:
        templates.append(manifest["spec"]["submitterPodTemplate"])
    found = []
    for number, template in enumerate(templates):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"pod-{number}"} | template["metadata"]}
        found += problems_of_core(pod | {"spec": template["spec"]})
    return found


def problems_of_core(manifest: dict[str, Any]) -> list[str]:
    """What the schema of a kind of Kubernetes' own does not allow."""
    try:
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
    except kubernetes_validate.ValidationError as error:
        return [f"{manifest['kind']} {'.'.join(str(part) for part in error.path)}: {error.message[:200]}"]
    return []
