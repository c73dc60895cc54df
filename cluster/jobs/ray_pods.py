"""The pods of a Ray cluster on Kubernetes: a head that computes nothing, and one group of workers. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from runspec.kubernetes import KubernetesSpec

Manifest = dict[str, Any]

RAY_VERSION = "2.60.0"
"""Of the image that k8s/Dockerfile builds; a test compares it with the locks."""
CACHE_PATH = "/cache"
"""Where the claim for downloaded models is mounted."""
MIB = 2**20
USER_ID = 1000
"""The image's user, who is not root."""
SHARED_MEMORY_SHARE = 0.3
"""Ray keeps objects in /dev/shm, up to this share of a pod's memory, and on disk where /dev/shm is smaller."""
SPOT_TAINTS = (
    "cloud.google.com/gke-spot",
    "kubernetes.azure.com/scalesetpriority",
    "karpenter.sh/capacity-type",
    "eks.amazonaws.com/capacityType",
)
"""Taints that clouds and Karpenter put on spot nodes."""
HEAD_CPUS, HEAD_MEMORY_BYTES = 2, 8 * 2**30
"""The head runs Ray's own services and the driver, which loads data and talks to the store but holds no model."""


@dataclass(frozen=True)
class WorkerGroup:
    """The pods that compute.

    Attributes:
        count: how many at the start.
        most: how many at most; more than `count` lets Ray's autoscaler add some.
        cpus, memory_bytes, gpus: of each; the memory includes the objects in /dev/shm.
    """

    count: int
    most: int
    cpus: int
    memory_bytes: int
    gpus: int


@dataclass(frozen=True)
class PodRules:
    """What is the same for all pods of a cluster.

    Attributes:
        environment: variables, in addition to those of the Secret.
        grace_seconds: how long a pod has to end cleanly.
        end_command: whether `python -m cluster.jobs.pod_end ROLE` runs before a pod is told to end.
        serve_port: the port that Ray Serve answers on; None where nothing is served.
    """

    labels: dict[str, str]
    annotations: dict[str, str]
    environment: dict[str, str]
    grace_seconds: int
    end_command: bool
    serve_port: int | None = None


def cluster_spec(settings: KubernetesSpec, rules: PodRules, group: WorkerGroup) -> Manifest:
    """The spec of a RayCluster, for a RayJob or a RayService."""
    spec: Manifest = {
        "rayVersion": RAY_VERSION,
        # Without a token, anyone who reaches the head's port can run code with the pods' rights.
        "authOptions": {"mode": "token"},
        "headGroupSpec": {
            "rayStartParams": {"num-cpus": "0", "dashboard-host": "0.0.0.0"},
            "template": _head(settings, rules, autoscaled=group.most > group.count),
        },
        "workerGroupSpecs": [
            {
                "groupName": "workers",
                "replicas": group.count,
                "minReplicas": group.count,
                "maxReplicas": group.most,
                "rayStartParams": {},
                "template": _worker(settings, rules, group),
            }
        ],
    }
    if group.most > group.count:
        spec["enableInTreeAutoscaling"] = True
        spec["autoscalerOptions"] = {"idleTimeoutSeconds": 120, "securityContext": container_security()}
    return spec


def pod_security() -> Manifest:
    """What the `restricted` level of Pod Security Standards requires of a pod."""
    return {
        "runAsNonRoot": True,
        "runAsUser": USER_ID,
        "runAsGroup": USER_ID,
        "fsGroup": USER_ID,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def container_security() -> Manifest:
    """What the `restricted` level requires of a container."""
    return {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def resources(cpus: float, memory_bytes: int, gpus: int = 0) -> Manifest:
    """Requests equal limits: such a pod is evicted last, and Ray counts what it really has."""
    amounts = {"cpu": f"{cpus:g}", "memory": f"{math.ceil(memory_bytes / MIB)}Mi"}
    if gpus:
        amounts["nvidia.com/gpu"] = str(gpus)
    return {"requests": dict(amounts), "limits": amounts}


def _head(settings: KubernetesSpec, rules: PodRules, *, autoscaled: bool) -> Manifest:
    container = _container(settings, rules, "ray-head", "head")
    container["ports"] = [
        {"containerPort": 6379, "name": "gcs-server"},
        {"containerPort": 8265, "name": "dashboard"},
        {"containerPort": 8080, "name": "metrics"},
    ]
    container["resources"] = resources(HEAD_CPUS, HEAD_MEMORY_BYTES)
    template = _template(settings, rules, container, HEAD_MEMORY_BYTES)
    # Only Ray's autoscaler, a container that KubeRay adds to this pod, calls the API server.
    template["spec"]["automountServiceAccountToken"] = autoscaled
    return template


def _worker(settings: KubernetesSpec, rules: PodRules, group: WorkerGroup) -> Manifest:
    container = _container(settings, rules, "ray-worker", "worker")
    container["ports"] = [{"containerPort": 8080, "name": "metrics"}]
    container["resources"] = resources(group.cpus, group.memory_bytes, group.gpus)
    template = _template(settings, rules, container, group.memory_bytes)
    pod = template["spec"]
    if settings.node_selector:
        pod["nodeSelector"] = dict(settings.node_selector)
    if tolerations := _tolerations(settings, group.gpus):
        pod["tolerations"] = tolerations
    return template


def _container(settings: KubernetesSpec, rules: PodRules, name: str, role: str) -> Manifest:
    container: Manifest = {
        "name": name,
        "image": settings.image,
        "env": [{"name": key, "value": value} for key, value in _environment(settings, rules).items()],
        "volumeMounts": [{"name": "shared-memory", "mountPath": "/dev/shm"}],
        "securityContext": container_security(),
    }
    if settings.secret is not None:
        container["envFrom"] = [{"secretRef": {"name": settings.secret, "optional": False}}]
    if settings.cache_claim is not None:
        container["volumeMounts"].append({"name": "cache", "mountPath": CACHE_PATH})
    if rules.end_command:
        command = ["python", "-m", "cluster.jobs.pod_end", role, str(max(1, rules.grace_seconds - 30))]
        container["lifecycle"] = {"preStop": {"exec": {"command": command}}}
    return container


def _environment(settings: KubernetesSpec, rules: PodRules) -> dict[str, str]:
    cache = {}
    if settings.cache_claim is not None:
        cache = {"HF_HOME": f"{CACHE_PATH}/huggingface", "GUITARFISH_CACHE": f"{CACHE_PATH}/guitarfish"}
    return {"RAY_USAGE_STATS_ENABLED": "0", **cache, **rules.environment}


def _template(settings: KubernetesSpec, rules: PodRules, container: Manifest, memory_bytes: int) -> Manifest:
    if rules.serve_port is not None:
        container["ports"].append({"containerPort": rules.serve_port, "name": "serve"})
    shared = f"{math.ceil(SHARED_MEMORY_SHARE * memory_bytes / MIB)}Mi"
    pod: Manifest = {
        "containers": [container],
        "securityContext": pod_security(),
        "terminationGracePeriodSeconds": rules.grace_seconds,
        "volumes": [{"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": shared}}],
        "automountServiceAccountToken": False,
    }
    if settings.service_account is not None:
        pod["serviceAccountName"] = settings.service_account
    if settings.cache_claim is not None:
        pod["volumes"].append({"name": "cache", "persistentVolumeClaim": {"claimName": settings.cache_claim}})
    metadata: Manifest = {"labels": dict(rules.labels)}
    if rules.annotations:
        metadata["annotations"] = dict(rules.annotations)
    return {"metadata": metadata, "spec": pod}


def _tolerations(settings: KubernetesSpec, gpus: int) -> list[Manifest]:
    keys = ["nvidia.com/gpu"] if gpus else []
    keys += SPOT_TAINTS if settings.spot else ()
    return [{"key": key, "operator": "Exists"} for key in keys]
