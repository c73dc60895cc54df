"""RayJob and RayService: what stands in them, that KubeRay's definitions take them, and that no secret gets in."""

from __future__ import annotations

import copy
import json
import re
import shlex
from typing import Any

import pytest
from support.ray_schemas import ROOT, problems_of_core, problems_of_pods, problems_of_ray

from cluster.jobs.jobs import JobRequest, Machines
from cluster.jobs.kube_jobs import KubeJobs
from cluster.jobs.manifests import (
    JOB_GRACE_SECONDS,
    ServeRequest,
    job_manifest,
    label_value,
    object_name,
    serve_config,
    service_manifest,
    time_limit_seconds,
)
from cluster.jobs.ray_pods import RAY_VERSION
from runspec.errors import HardwareError
from runspec.kubernetes import KubernetesSpec

REQUEST = JobRequest("smart-home-20261124-060000-ab12", "s3://bucket/store", {"team": "search"})
GPU = Machines(2, 1, 4, 24 * 2**30, "RTX 4090", 1.5)
CPU = Machines(1, 0, 2, 4 * 2**30, None, None)
FULL = KubernetesSpec(
    namespace="ml", image="registry.example/guitarfish:1", secret="store", cache_claim="models", queue="team",
    node_selector={"gpu": "rtx4090"}, spot=True, time_limit_hours=12,
)  # fmt: skip
BARE = KubernetesSpec(service_account=None)
SERVE = ServeRequest(
    name="smart-home", labels={"team": "search"}, arguments={"store": "s3://bucket/store"}, port=8000,
    least=1, most=3, cpus=4, memory_bytes=16 * 2**30, gpus=1,
)  # fmt: skip
CASES = [(FULL, GPU), (FULL, CPU), (BARE, GPU), (BARE, CPU)]


def containers(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    """Every container of a manifest."""
    found = []

    def look(value: Any) -> None:
        if isinstance(value, dict):
            found.extend(value.get("containers") or [])
            for each in value.values():
                look(each)
        elif isinstance(value, list):
            for each in value:
                look(each)

    look(manifest)
    return found


@pytest.mark.parametrize(("settings", "machines"), CASES)
def test_kuberay_takes_the_rayjob(settings: KubernetesSpec, machines: Machines) -> None:
    assert problems_of_ray(job_manifest(settings, machines, REQUEST)) == []


@pytest.mark.parametrize("settings", [FULL, BARE])
@pytest.mark.parametrize("changes", [{}, {"most": 1, "gpus": 0}])
def test_kuberay_takes_the_rayservice(settings: KubernetesSpec, changes: dict[str, int]) -> None:
    request = ServeRequest(**(vars(SERVE) | changes))
    assert problems_of_ray(service_manifest(settings, request)) == []


@pytest.mark.parametrize(("settings", "machines"), CASES)
def test_kubernetes_takes_the_pods(settings: KubernetesSpec, machines: Machines) -> None:
    assert problems_of_pods(job_manifest(settings, machines, REQUEST)) == []
    assert problems_of_pods(service_manifest(settings, SERVE)) == []


@pytest.mark.parametrize(
    "path",
    [
        "spec.ttlSecondAfterFinished",
        "spec.rayClusterSpec.headGroupSpec.rayStartParam",
        "spec.rayClusterSpec.headGroupSpec.template.spec.nodeselector",
        "spec.rayClusterSpec.authOptions.modes",
        "spec.submitterPodTemplate.spec.securityContext.runAsNonroot",
    ],
)
def test_a_planted_misspelling_is_caught(path: str) -> None:
    manifest = copy.deepcopy(job_manifest(FULL, GPU, REQUEST))
    *parents, key = path.split(".")
    place = manifest
    for parent in parents:
        place = place[parent]
    place[key] = "x"
    assert any(key in problem for problem in problems_of_ray(manifest))


def test_a_misspelling_in_a_core_kind_is_caught() -> None:
    claim = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, "dat": {}}
    assert problems_of_core(claim)


def test_the_head_computes_nothing_and_workers_are_sized_by_the_plan() -> None:
    cluster = job_manifest(FULL, GPU, REQUEST)["spec"]["rayClusterSpec"]
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    [group] = cluster["workerGroupSpecs"]
    assert (group["replicas"], group["minReplicas"], group["maxReplicas"]) == (2, 2, 2)
    [container] = group["template"]["spec"]["containers"]
    amounts = {"cpu": "4", "memory": "24576Mi", "nvidia.com/gpu": "1"}
    assert container["resources"] == {"requests": amounts, "limits": amounts}
    assert container["envFrom"] == [{"secretRef": {"name": "store", "optional": False}}]
    pod = group["template"]["spec"]
    assert pod["nodeSelector"] == {"gpu": "rtx4090"}
    keys = {each["key"] for each in pod["tolerations"]}
    assert {"nvidia.com/gpu", "cloud.google.com/gke-spot", "kubernetes.azure.com/scalesetpriority"} <= keys
    assert "tolerations" not in cluster["headGroupSpec"]["template"]["spec"]  # the driver stays on a node that stays
    shared = {each["name"]: each for each in pod["volumes"]}["shared-memory"]["emptyDir"]
    assert shared == {"medium": "Memory", "sizeLimit": "7373Mi"}
    assert {"name": "cache", "persistentVolumeClaim": {"claimName": "models"}} in pod["volumes"]
    assert {"name": "HF_HOME", "value": "/cache/huggingface"} in container["env"]


def test_on_a_cpu_no_gpu_is_asked_for() -> None:
    [group] = job_manifest(BARE, CPU, REQUEST)["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    assert "nvidia.com/gpu" not in group["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert "tolerations" not in group["template"]["spec"]


@pytest.mark.parametrize(
    "manifest", [job_manifest(FULL, GPU, REQUEST), service_manifest(FULL, SERVE)], ids=["job", "serve"]
)
def test_every_pod_keeps_to_the_restricted_level(manifest: dict[str, Any]) -> None:
    found = containers(manifest)
    assert len(found) >= 2
    for container in found:
        assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    text = json.dumps(manifest)
    assert text.count('"runAsNonRoot": true') == len(found) == text.count('"type": "RuntimeDefault"')


def test_the_command_is_one_that_resumes() -> None:
    spec = job_manifest(BARE, CPU, REQUEST)["spec"]
    assert shlex.split(spec["entrypoint"]) == list(REQUEST.command)
    assert spec["suspend"] is False
    assert spec["backoffLimit"] == 0


def test_a_queue_makes_the_job_wait_for_kueue() -> None:
    manifest = job_manifest(FULL, GPU, REQUEST)
    assert manifest["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team"
    assert manifest["spec"]["suspend"] is True
    assert manifest["spec"]["backoffLimit"] == 2  # on spot nodes


def test_pods_have_time_for_a_checkpoint() -> None:
    cluster = job_manifest(BARE, CPU, REQUEST)["spec"]["rayClusterSpec"]
    for role, template in (
        ("head", cluster["headGroupSpec"]["template"]),
        ("worker", cluster["workerGroupSpecs"][0]["template"]),
    ):
        assert template["spec"]["terminationGracePeriodSeconds"] == JOB_GRACE_SECONDS
        [container] = template["spec"]["containers"]
        command = container["lifecycle"]["preStop"]["exec"]["command"]
        assert command[:4] == ["python", "-m", "cluster.jobs.pod_end", role]
        assert int(command[4]) < JOB_GRACE_SECONDS
        waits = {each["name"]: each["value"] for each in container["env"]}["RAY_JOB_STOP_WAIT_TIME_S"]
        assert int(waits) < JOB_GRACE_SECONDS


def test_labels_are_the_run_files_and_ours() -> None:
    request = JobRequest("run-1", "s3://b", {"team": "search", "app.kubernetes.io/name": "mine"})
    manifest = job_manifest(BARE, CPU, request)
    labels = manifest["metadata"]["labels"]
    assert labels["team"] == "search"
    assert labels["app.kubernetes.io/name"] == "guitarfish"
    assert labels["guitarfish.run"] == "run-1"
    assert manifest["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["metadata"]["labels"]["team"] == "search"


@pytest.mark.parametrize(
    ("hours", "limit", "seconds"), [(None, None, None), (1.0, None, 14400), (1.0, 0.5, 1800), (None, 2, 7200)]
)
def test_time_limit(hours: float | None, limit: float | None, seconds: int | None) -> None:
    machines = Machines(1, 0, 1, 2**30, None, hours)
    assert time_limit_seconds(KubernetesSpec(time_limit_hours=limit), machines) == seconds


def test_no_machine_no_job() -> None:
    with pytest.raises(HardwareError, match="has no machine"):
        job_manifest(BARE, Machines(0, 0, 1, 1, None, None), REQUEST)


@pytest.mark.parametrize(
    "text", ["smart-home-20261124-060000-ab12", "7b-run", "x" * 80, "a" * 46 + "-" + "b" * 20, "-"]
)
def test_names_are_what_kuberay_takes(text: str) -> None:
    name = object_name(text)
    assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name)
    assert len(name) <= 47
    assert object_name(text) == name


def test_names_that_fit_stay_and_long_ones_stay_apart() -> None:
    assert object_name(REQUEST.run_id) == REQUEST.run_id
    assert object_name("x" * 60 + "1") != object_name("x" * 60 + "2")
    assert object_name("7b") == object_name("7b") != object_name("gf-7b")
    assert label_value("a" * 63) == "a" * 63
    assert len(label_value("a" * 64)) <= 63


def test_ray_serve_takes_the_config() -> None:
    from ray.serve.schema import ServeDeploySchema

    parsed = ServeDeploySchema.model_validate(serve_config(SERVE))
    [application] = parsed.applications
    assert application.import_path == "guitarfish.actions.deployed:application"
    assert application.args == SERVE.arguments


def test_a_service_with_room_to_grow_has_an_autoscaler_with_a_token() -> None:
    growing = service_manifest(BARE, SERVE)["spec"]["rayClusterConfig"]
    assert growing["enableInTreeAutoscaling"] is True
    assert growing["headGroupSpec"]["template"]["spec"]["automountServiceAccountToken"] is True
    fixed = service_manifest(BARE, ServeRequest(**(vars(SERVE) | {"most": 1})))["spec"]["rayClusterConfig"]
    assert "enableInTreeAutoscaling" not in fixed
    assert fixed["headGroupSpec"]["template"]["spec"]["automountServiceAccountToken"] is False


def test_ray_is_the_version_of_the_locks() -> None:
    for lock in ("cpu", "gpu"):
        [version] = re.findall(r"^ray(?:\[[^]]*\])?==(\S+)", (ROOT / "locks" / f"{lock}.txt").read_text(), re.M)
        assert version == RAY_VERSION


def test_nothing_of_the_environment_gets_into_a_manifest(monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = {
        "AWS_ACCESS_KEY_ID": "AKIAPLANTED", "AWS_SECRET_ACCESS_KEY": "planted-aws-secret", "HF_TOKEN": "hf_planted",
        "RAY_AUTH_TOKEN": "planted-ray-token",
    }  # fmt: skip
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    text = json.dumps([KubeJobs(FULL, GPU).manifest(REQUEST), service_manifest(FULL, SERVE)])
    assert not [value for value in secrets.values() if value in text]
