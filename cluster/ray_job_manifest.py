"""A KubeRay RayJob out of a run's settings and what the plan says it needs. Pure."""

from __future__ import annotations

import math
import shlex

from cluster.jobs import JobRequest, Machines
from cluster.kube_names import label_value, object_name
from cluster.ray_pods import (
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
"""Shortened where a label is too short for a run's id; the annotation of this name has all of it."""
SUBMITTER = "ray-job-submitter"
GRACE_SECONDS = 600
"""How long pods have to end: the step that is going on, a checkpoint, and its way to the store. A spot node gives 30 to
120 seconds, whatever stands here."""
KEPT_SECONDS = 300
"""The cluster of a job that ended is kept so long, for a look at its logs; its pods cost what they cost."""
SUBMITTER_TRIES = 3
"""A submitter that lost the head waits for the new one and starts the driver again, which resumes the run."""
SPOT_RETRIES = 2
"""New clusters after a failure, on spot nodes alone. KubeRay does not look at the exit code: it would also start GPUs
again for a gate that was not passed."""
HOURS_ROOM = 3
"""A job is ended after so many times what its plan says."""
STEADY = {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false", "karpenter.sh/do-not-disrupt": "true"}
"""Nodes are not taken away to save money while a run is on them."""


def job_manifest(settings: KubernetesSpec, machines: Machines, request: JobRequest) -> Manifest:
    """The RayJob that runs a run. It holds no credentials, and equal arguments give equal manifests.

    Raises:
        HardwareError: the plan names no machine.
    """
    _check(machines)
    labels = job_labels(request)
    rules = PodRules(
        labels=labels,
        annotations=STEADY,
        environment={"RAY_JOB_STOP_WAIT_TIME_S": str(GRACE_SECONDS - 60), "PYTHONUNBUFFERED": "1"},
        grace_seconds=GRACE_SECONDS,
        end_command=True,
    )
    group = WorkerGroup(
        count=machines.workers,
        most=machines.workers,
        cpus=machines.cpus_per_worker,
        memory_bytes=machines.memory_bytes_per_worker,
        gpus=machines.gpus_per_worker,
    )
    queue = {QUEUE_LABEL: settings.queue} if settings.queue else {}
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": {
            "name": object_name(request.run_id),
            "namespace": settings.namespace,
            "labels": labels | queue,
            "annotations": _annotations(machines, request),
        },
        "spec": _spec(settings, machines, request) | {"rayClusterSpec": cluster_spec(settings, rules, group)},
    }


def job_labels(request: JobRequest) -> dict[str, str]:
    """Labels of everything that belongs to a run: the run file's, and ours over them."""
    return request.labels | {
        "app.kubernetes.io/name": "guitarfish",
        "app.kubernetes.io/component": "training",
        "app.kubernetes.io/managed-by": "guitarfish",
        RUN_LABEL: label_value(request.run_id),
    }


def _spec(settings: KubernetesSpec, machines: Machines, request: JobRequest) -> Manifest:
    spec: Manifest = {
        "entrypoint": shlex.join(request.command),
        "submissionMode": "K8sJobMode",
        "submitterConfig": {"backoffLimit": SUBMITTER_TRIES},
        "submitterPodTemplate": _submitter(settings, request),
        "shutdownAfterJobFinishes": True,
        "ttlSecondsAfterFinished": KEPT_SECONDS,
        "backoffLimit": SPOT_RETRIES if settings.spot else 0,
        # Kueue starts what waits in its queue; without one the job starts at once.
        "suspend": settings.queue is not None,
    }
    if (limit := time_limit_seconds(settings, machines)) is not None:
        spec["activeDeadlineSeconds"] = limit
    return spec


def time_limit_seconds(settings: KubernetesSpec, machines: Machines) -> int | None:
    """After how many seconds the job is ended, waiting for its pods included; None where nobody can say."""
    if settings.time_limit_hours is not None:
        return max(1, round(settings.time_limit_hours * 3600))
    if machines.hours is None:
        return None
    return math.ceil(HOURS_ROOM * machines.hours * 3600) + 3600  # an hour for nodes, images and models to arrive


def _annotations(machines: Machines, request: JobRequest) -> dict[str, str]:
    planned = {
        "guitarfish.gpu": machines.gpu_label,
        "guitarfish.hours": None if machines.hours is None else f"{machines.hours:.2f}",
    }
    return {RUN_LABEL: request.run_id, "guitarfish.store": request.store} | {
        key: value for key, value in planned.items() if value is not None
    }


def _submitter(settings: KubernetesSpec, request: JobRequest) -> Manifest:
    """The pod that hands the command to the head and prints what it prints."""
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
    return {"metadata": {"labels": job_labels(request)}, "spec": pod}


def _check(machines: Machines) -> None:
    if min(machines.workers, machines.cpus_per_worker, machines.memory_bytes_per_worker) < 1:
        raise HardwareError(
            f"The plan names no machine: {machines.workers} workers with {machines.cpus_per_worker} CPU cores and "
            f"{machines.memory_bytes_per_worker} bytes of memory.",
            where="plan.json of the run",
            fix="Set hardware.workers and hardware.cpus_per_worker, and submit again.",
        )
