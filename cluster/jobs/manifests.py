"""What we create on Kubernetes, as plain objects: a RayJob that trains a run, a RayService that serves adapters. Pure.

Equal arguments give equal manifests, and none holds credentials.
"""

from __future__ import annotations

import hashlib
import math
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from cluster.jobs.jobs import JobRequest, Machines
from cluster.jobs.ray_pods import (
    Manifest,
    PodRules,
    WorkerGroup,
    cluster_spec,
    container_security,
    pod_security,
    resources,
)
from runspec.errors import HardwareError
from runspec.kubernetes import KubernetesSpec

QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
RUN_LABEL = "guitarfish.run"
"""The label is shortened where a run's id is too long for one; the annotation of this name has all of it."""
SUBMITTER = "ray-job-submitter"
JOB_GRACE_SECONDS = 600
"""How long a run's pods have to end: the current step, a checkpoint and its upload. A spot node gives 30 to 120 seconds
whatever is set here."""
KEPT_SECONDS = 300
"""How long the cluster of an ended job is kept, for a look at its logs; its pods still cost money."""
SUBMITTER_TRIES = 3
"""A submitter that lost the head waits for the new one and starts the driver again, which resumes the run."""
SPOT_RETRIES = 2
"""New clusters after a failure, on spot nodes only. KubeRay ignores the exit code: elsewhere it would start GPUs again
for a gate that was not passed."""
HOURS_ROOM = 3
"""A job is ended after this many times the hours that its plan predicts."""
STEADY = {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false", "karpenter.sh/do-not-disrupt": "true"}
"""Keeps autoscalers from removing a run's nodes to save money."""

APPLICATION = "guitarfish"
IMPORT_PATH = "guitarfish.actions.deployed:application"
SERVICE_GRACE_SECONDS = 60
"""How long a serving pod has to finish the answers it has started."""

NAME_LENGTH = 47
"""Longest name of a RayJob or RayService: KubeRay appends more for the cluster, its pods and its services."""
LABEL_LENGTH = 63


@dataclass(frozen=True)
class ServeRequest:
    """What a cluster is asked to serve.

    Attributes:
        name: of the run file; the service is named after it.
        labels: of the run file.
        arguments: of `guitarfish.actions.deployed.application`: plain values, no credentials.
        port: that Ray Serve answers on.
        least, most: replicas; each has its own pod.
        cpus, memory_bytes, gpus: of a pod.
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


def job_manifest(settings: KubernetesSpec, machines: Machines, request: JobRequest) -> Manifest:
    """The RayJob of a run. Raises HardwareError where the plan has no machine."""
    if min(machines.workers, machines.cpus_per_worker, machines.memory_bytes_per_worker) < 1:
        raise HardwareError(
            f"The plan has no machine: {machines.workers} workers with {machines.cpus_per_worker} CPU cores and "
            f"{machines.memory_bytes_per_worker} bytes of memory.",
            where="plan.json of the run",
            fix="Set hardware.workers and hardware.cpus_per_worker, and submit again.",
        )
    labels = _labels(request.labels, "training") | {RUN_LABEL: label_value(request.run_id)}
    annotations = {RUN_LABEL: request.run_id, "guitarfish.store": request.store}
    if machines.gpu_label is not None:
        annotations["guitarfish.gpu"] = machines.gpu_label
    if machines.hours is not None:
        annotations["guitarfish.hours"] = f"{machines.hours:.2f}"
    rules = PodRules(
        labels=labels,
        annotations=STEADY,
        environment={"RAY_JOB_STOP_WAIT_TIME_S": str(JOB_GRACE_SECONDS - 60), "PYTHONUNBUFFERED": "1"},
        grace_seconds=JOB_GRACE_SECONDS,
        end_command=True,
    )
    group = WorkerGroup(
        count=machines.workers,
        most=machines.workers,
        cpus=machines.cpus_per_worker,
        memory_bytes=machines.memory_bytes_per_worker,
        gpus=machines.gpus_per_worker,
    )
    spec: Manifest = {
        "entrypoint": shlex.join(request.command),
        "submissionMode": "K8sJobMode",
        "submitterConfig": {"backoffLimit": SUBMITTER_TRIES},
        "submitterPodTemplate": _submitter(settings, labels),
        "shutdownAfterJobFinishes": True,
        "ttlSecondsAfterFinished": KEPT_SECONDS,
        "backoffLimit": SPOT_RETRIES if settings.spot else 0,
        # Kueue starts what waits in its queue; without a queue the job starts at once.
        "suspend": settings.queue is not None,
        "rayClusterSpec": cluster_spec(settings, rules, group),
    }
    if (limit := time_limit_seconds(settings, machines)) is not None:
        spec["activeDeadlineSeconds"] = limit
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": {
            "name": object_name(request.run_id),
            "namespace": settings.namespace,
            "labels": labels | ({QUEUE_LABEL: settings.queue} if settings.queue else {}),
            "annotations": annotations,
        },
        "spec": spec,
    }


def time_limit_seconds(settings: KubernetesSpec, machines: Machines) -> int | None:
    """After how many seconds the job is ended, counting the wait for its pods; None without a limit or a prediction."""
    if settings.time_limit_hours is not None:
        return max(1, round(settings.time_limit_hours * 3600))
    if machines.hours is None:
        return None
    return math.ceil(HOURS_ROOM * machines.hours * 3600) + 3600  # an hour for nodes, images and models to arrive


def _submitter(settings: KubernetesSpec, labels: dict[str, str]) -> Manifest:
    """The pod that hands the command to the head and prints the driver's output."""
    pod: Manifest = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "securityContext": pod_security(),
        "containers": [
            {
                "name": SUBMITTER,
                "image": settings.image,
                "resources": resources(0.5, 2**30),
                "securityContext": container_security(),
            }
        ],
    }
    if settings.service_account is not None:
        pod["serviceAccountName"] = settings.service_account
    return {"metadata": {"labels": dict(labels)}, "spec": pod}


def service_manifest(settings: KubernetesSpec, request: ServeRequest) -> Manifest:
    """The RayService of a run file."""
    labels = _labels(request.labels, "serving") | {"app.kubernetes.io/instance": label_value(request.name)}
    rules = PodRules(
        labels=labels,
        annotations={},
        environment={},
        grace_seconds=SERVICE_GRACE_SECONDS,
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
            {"name": APPLICATION, "route_prefix": "/", "import_path": IMPORT_PATH, "args": request.arguments}
        ],
    }


def _labels(run_file: dict[str, str], component: str) -> dict[str, str]:
    """The run file's labels, overridden by ours."""
    return run_file | {
        "app.kubernetes.io/name": "guitarfish",
        "app.kubernetes.io/component": component,
        "app.kubernetes.io/managed-by": "guitarfish",
    }


def object_name(text: str) -> str:
    """A run's id, or a run file's name, as the name of a Ray object: a DNS-1035 label, as KubeRay requires."""
    plain = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "run"
    named = plain if plain[0].isalpha() else f"gf-{plain}"
    return named if named == text and len(named) <= NAME_LENGTH else _shortened(named, text, NAME_LENGTH)


def label_value(text: str) -> str:
    """A text as the value of a label: unchanged where Kubernetes allows it, else shortened."""
    if re.fullmatch(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?", text):
        return text
    return _shortened(re.sub(r"[^A-Za-z0-9_.-]+", "-", text).strip("_.-"), text, LABEL_LENGTH)


def _shortened(plain: str, text: str, length: int) -> str:
    """The beginning, and a hash of the whole text that keeps two long names apart."""
    mark = hashlib.sha256(text.encode()).hexdigest()[:8]
    return f"{plain[: length - 9].rstrip('_.-')}-{mark}" if plain else mark


class _Dumper(yaml.SafeDumper):
    """No anchors for equal parts, and literal blocks for texts of several lines."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _text)


def manifest_text(manifest: Mapping[str, Any]) -> str:
    """A manifest as YAML, for people and for `kubectl apply --server-side -f -`."""
    return yaml.dump(dict(manifest), Dumper=_Dumper, sort_keys=False, width=120)
