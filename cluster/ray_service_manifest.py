"""A KubeRay RayService that serves a base model and its adapters. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cluster.kube_names import label_value, object_name
from cluster.manifest_text import manifest_text
from cluster.ray_pods import Manifest, PodRules, WorkerGroup, cluster_spec
from runspec.kubernetes import KubernetesSpec

APPLICATION = "guitarfish"
IMPORT_PATH = "guitarfish.deployed:application"
GRACE_SECONDS = 60
"""How long a pod has to answer what it has begun."""


@dataclass(frozen=True)
class ServeRequest:
    """What a cluster is asked to serve.

    Attributes:
        name: of the run file; the service is called after it.
        labels: of the run file.
        arguments: of `guitarfish.deployed.application`: plain values, no credentials.
        port: that Ray Serve answers on.
        least, most: replicas; each has a pod of its own.
        cpus: cores of a pod.
        memory_bytes: of a pod.
        gpus: of a pod.
    """

    name: str
    labels: dict[str, str]
    arguments: dict[str, Any]
    port: int
    least: int
    most: int
    cpus: int
    memory_bytes: int
    gpus: int


def service_manifest(settings: KubernetesSpec, request: ServeRequest) -> Manifest:
    """The RayService of a run file; equal arguments give equal manifests."""
    labels = request.labels | {
        "app.kubernetes.io/name": "guitarfish",
        "app.kubernetes.io/component": "serving",
        "app.kubernetes.io/managed-by": "guitarfish",
        "app.kubernetes.io/instance": label_value(request.name),
    }
    rules = PodRules(
        labels=labels,
        annotations={},
        environment={},
        grace_seconds=GRACE_SECONDS,
        end_command=False,
        serve_port=request.port,
    )
    group = WorkerGroup(
        count=request.least,
        most=request.most,
        cpus=request.cpus,
        memory_bytes=request.memory_bytes,
        gpus=request.gpus,
    )
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayService",
        "metadata": {"name": object_name(request.name), "namespace": settings.namespace, "labels": labels},
        "spec": {
            "serveConfigV2": manifest_text(serve_config(request)),
            "rayClusterConfig": cluster_spec(settings, rules, group),
        },
    }


def serve_config(request: ServeRequest) -> dict[str, Any]:
    """Ray Serve's config: where it listens, and what builds the application on the cluster."""
    return {
        "proxy_location": "EveryNode",
        "http_options": {"host": "0.0.0.0", "port": request.port},
        "applications": [
            {
                "name": APPLICATION,
                "route_prefix": "/",
                "import_path": IMPORT_PATH,
                "args": request.arguments,
            }
        ],
    }
