"""Runs as RayJobs, against a stub of the API server: submit, status, logs that break, cancel, and each way to fail."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from cluster.jobs.jobs import JobRequest, Jobs, Machines
from cluster.jobs.kube_client import Dropped
from cluster.jobs.kube_jobs import KubeJobs, status_of, why_pod_waits
from runspec.errors import HardwareError
from runspec.kubernetes import KubernetesSpec

from .conftest import TOKEN, Log, kubeconfig_of, pod, status_body

if TYPE_CHECKING:
    from .conftest import Stub

RUN = "smart-home-20261124-060000-ab12"
REQUEST = JobRequest(RUN, "s3://bucket/store", {"team": "search"})
MACHINES = Machines(2, 1, 4, 24 * 2**30, "RTX 4090", 1.5)


def jobs(*, context: str | None = None, **settings: Any) -> KubeJobs:
    spec = KubernetesSpec.model_validate({"namespace": "ml", "secret": "guitarfish-store", **settings})
    made = KubeJobs(spec, MACHINES, context, seconds=2, quiet_seconds=2, poll_seconds=0.01)
    protocol: Jobs = made
    assert protocol is made
    return made


def lines(count: int, start: int = 0) -> list[str]:
    """Lines of a log: three in each second."""
    return [f"2026-11-24T06:00:{n // 3:02d}.{n % 3 + 1:09d}Z line {n}" for n in range(start, start + count)]


def fault(call: Any) -> HardwareError:
    with pytest.raises(HardwareError) as raised:
        call()
    assert raised.value.fix
    assert TOKEN not in str(raised.value)
    return raised.value


def test_a_run_is_submitted_watched_and_stopped(stub: Stub) -> None:
    submission = jobs().submit(REQUEST)
    assert (submission.target, submission.place, submission.job) == ("k8s", "ml", RUN)
    [created] = stub.bodies("POST")
    assert created == jobs().manifest(REQUEST)
    assert created["spec"]["entrypoint"] == f"guitarfish train --resume {RUN} --store s3://bucket/store"
    assert jobs().status(RUN).state == "pending"

    stub.job(RUN, deployment="Running", status="RUNNING")
    assert jobs().status(RUN).state == "running"
    jobs().cancel(RUN)
    assert stub.bodies("PATCH") == [{"spec": {"suspend": True}}]
    assert jobs().status(RUN).message == "stopping with a checkpoint"
    stub.job(RUN, deployment="Suspended")
    assert jobs().status(RUN).state == "stopped"
    jobs().cancel(RUN)  # once more does no harm
    assert len(stub.bodies("PATCH")) == 1


def test_a_run_in_a_queue_waits_there_and_is_deleted_to_stop_it(stub: Stub) -> None:
    queued = jobs(queue="team-queue")
    queued.submit(REQUEST)
    assert queued.status(RUN) == queued.status(RUN).model_copy(update={"state": "pending"})
    assert queued.status(RUN).message == "waiting in queue team-queue"
    queued.cancel(RUN)
    assert stub.objects == {}
    assert [method for method, *_ in stub.requests][-1] == "DELETE"


def test_what_a_waiting_run_waits_for_is_said(stub: Stub) -> None:
    job = stub.job(RUN, deployment="Initializing")
    job["status"]["rayClusterName"] = "c1"
    why = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": why}
    stub.pods = [pod("head", cluster="c1"), pod("worker-0", cluster="c1", phase="Pending", conditions=[condition])]
    assert jobs().status(RUN).message == f"worker-0: {why}"
    waiting = {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}
    stuck = pod("worker-0", phase="Pending", containerStatuses=[{"state": {"waiting": waiting}}])
    assert why_pod_waits(stuck) == "worker-0: ImagePullBackOff: Back-off pulling image"


@pytest.mark.parametrize(
    ("deployment", "status", "message", "state", "code"),
    [
        ("", "", "", "pending", None),
        ("Initializing", "", "", "pending", None),
        ("Running", "PENDING", "", "pending", None),
        ("Running", "RUNNING", "", "running", None),
        ("Running", "FAILED", "x failed with exit code 1, ...", "running", None),
        ("Retrying", "FAILED", "x failed with exit code 1, ...", "pending", None),
        ("Complete", "SUCCEEDED", "Job finished successfully.", "succeeded", 0),
        ("Complete", "STOPPED", "", "stopped", None),
        ("Failed", "FAILED", "Job entrypoint command failed with exit code 3, last logs\nsecond line", "failed", 3),
        ("Failed", "FAILED", "Job entrypoint command failed with exit code 130, last logs", "stopped", 130),
        ("Failed", "RUNNING", "The RayJob has passed the activeDeadlineSeconds.", "failed", None),
    ],
)
def test_kuberays_words_become_a_state(
    deployment: str, status: str, message: str, state: str, code: int | None
) -> None:
    job = {"jobDeploymentStatus": deployment, "jobStatus": status, "message": message}
    found = status_of({"metadata": {}, "spec": {}, "status": job})
    assert found.state == state
    assert found.exit_code == code or state in ("running", "pending")
    assert "second line" not in found.message


def ends_after(stub: Stub, reads: int) -> None:
    """The job ends once its log was asked for so often."""
    asked = []

    def count() -> None:
        asked.append(1)
        if len(asked) >= reads:
            stub.job(RUN, deployment="Complete", status="SUCCEEDED")

    stub.on_log = count


@pytest.mark.parametrize("clean", [False, True], ids=["reset", "cut short without an error"])
@pytest.mark.parametrize("breaks", [[100], [100, 60, 75], [1], [0, 0, 220]])
def test_a_dropped_log_stream_is_taken_up_where_it_broke(stub: Stub, breaks: list[int], clean: bool) -> None:
    stub.job(RUN, deployment="Running", status="RUNNING")
    stub.pods = [pod("submitter", job=RUN)]
    stub.logs["submitter"] = Log(lines(20), list(breaks), clean)
    ends_after(stub, len(breaks) + 1)
    assert list(jobs().logs(RUN, follow=True)) == [f"line {n}" for n in range(20)]
    queries = [query for _, path, query, _, _ in stub.requests if path.endswith("/log")]
    assert len(queries) == len(breaks) + 2  # the whole of it, and once more after the job had ended
    assert queries[0]["follow"] == ["true"]
    assert queries[-1]["follow"] == ["false"]


def test_a_line_with_an_earlier_time_comes_once(stub: Stub) -> None:
    """Two threads' lines may change places around the end of a second."""
    stub.job(RUN, deployment="Running", status="RUNNING")
    stub.pods = [pod("submitter", job=RUN)]
    log = [f"2026-11-24T06:00:{second:02d}.5Z {text}" for second, text in ((1, "a"), (2, "b"), (1, "late"), (2, "c"))]
    stub.logs["submitter"] = Log(log, [len("\n".join(log[:3])) + 1])
    ends_after(stub, 2)
    assert list(jobs().logs(RUN, follow=True)) == ["a", "b", "late", "c"]


def test_of_a_long_log_only_the_end_is_read_again(stub: Stub) -> None:
    stub.job(RUN, deployment="Running", status="RUNNING")
    stub.pods = [pod("submitter", job=RUN)]
    times = [datetime.now(UTC) - timedelta(seconds=age) for age in (7200, 200, 20, 20, 10)]
    stub.logs["submitter"] = Log([f"{time:%Y-%m-%dT%H:%M:%S}.0Z line {n}" for n, time in enumerate(times)], [130])
    ends_after(stub, 2)
    assert list(jobs().logs(RUN, follow=True)) == [f"line {n}" for n in range(5)]
    ages = [int(query["sinceSeconds"][0]) for _, path, query, _, _ in stub.requests if "sinceSeconds" in query]
    assert [310 <= age <= 360 for age in ages] == [True, True]


def test_equal_lines_at_one_time_are_not_taken_for_a_repetition(stub: Stub) -> None:
    stub.job(RUN, deployment="Running", status="RUNNING")
    stub.pods = [pod("submitter", job=RUN)]
    same = "2026-11-24T06:00:00.000000001Z again"
    late = "2026-11-24T06:00:00.000000000Z written by another thread"
    stub.logs["submitter"] = Log([same, same, late, same], [90])
    ends_after(stub, 2)
    assert list(jobs().logs(RUN, follow=True)) == ["again", "again", "written by another thread", "again"]


def test_following_waits_for_the_pod_and_without_it_what_there_is_is_printed(stub: Stub) -> None:
    stub.job(RUN, deployment="Initializing")
    assert list(jobs().logs(RUN, follow=False)) == []
    stub.pods = [pod("submitter", job=RUN, phase="Pending")]
    following = jobs().logs(RUN, follow=True)
    stub.logs["submitter"] = Log(lines(2))
    stub.pods[0]["status"]["phase"] = "Running"
    ends_after(stub, 1)
    assert list(following) == ["line 0", "line 1"]
    assert list(jobs().logs(RUN, follow=False)) == ["line 0", "line 1"]


def test_a_stream_that_breaks_again_and_again_is_given_up(stub: Stub) -> None:
    stub.job(RUN, deployment="Running", status="RUNNING")
    stub.pods = [pod("submitter", job=RUN)]
    stub.logs["submitter"] = Log(lines(3), [0] * 50)
    with pytest.raises(Dropped, match="connection broke"):
        list(jobs().logs(RUN, follow=True))


def test_logs_end_when_the_job_is_deleted(stub: Stub) -> None:
    stub.job(RUN, deployment="Running", status="RUNNING")
    stub.pods = [pod("submitter", job=RUN)]
    stub.logs["submitter"] = Log(lines(3))
    stub.on_log = stub.objects.clear
    assert list(jobs().logs(RUN, follow=True)) == ["line 0", "line 1", "line 2"]


def test_401_credentials_are_refused(stub: Stub) -> None:
    stub.kubeconfig.write_text(yaml.safe_dump(kubeconfig_of(stub.url, "expired")))
    error = fault(lambda: jobs().submit(REQUEST))
    assert "does not accept these credentials" in error.what
    assert "Log in" in error.fix
    assert "expired-" not in str(error)


def test_403_names_verb_resource_and_role(stub: Stub) -> None:
    said = 'rayjobs.ray.io is forbidden: User "ann" cannot create resource "rayjobs" in API group "ray.io"'
    stub.refuse("POST", "rayjobs", 403, status_body(403, "Forbidden", said, group="ray.io", kind="rayjobs"))
    error = fault(lambda: jobs().submit(REQUEST))
    assert "You may not create rayjobs.ray.io in namespace ml" in error.what
    assert 'User "ann"' in error.what
    assert "guitarfish-submitter" in error.fix
    assert "kubectl auth can-i create rayjobs.ray.io -n ml" in error.fix


def test_403_of_logs_names_the_subresource(stub: Stub) -> None:
    stub.job(RUN, deployment="Running", status="RUNNING")
    stub.pods, stub.logs = [pod("submitter", job=RUN)], {"submitter": Log([])}
    stub.refuse("GET", "/log$", 403, status_body(403, "Forbidden", "pods/log is forbidden"))
    error = fault(lambda: list(jobs().logs(RUN, follow=False)))
    assert "can-i get pods --subresource=log -n ml" in error.fix


def test_403_of_a_quota_is_told_from_missing_rights(stub: Stub) -> None:
    said = "rayjobs.ray.io is forbidden: exceeded quota: gpus, requested: requests.nvidia.com/gpu=2, used: 8"
    stub.refuse("POST", "rayjobs", 403, status_body(403, "Forbidden", said))
    error = fault(lambda: jobs().submit(REQUEST))
    assert "quota is used up" in error.what
    assert "kubernetes.queue" in error.fix


def test_404_kuberay_is_not_installed(stub: Stub) -> None:
    stub.refuse("POST", "rayjobs", 404, "404 page not found\n")
    error = fault(lambda: jobs().submit(REQUEST))
    assert "KubeRay is not installed" in error.what
    assert "k8s/README.md" in error.fix


def test_404_the_namespace_is_missing(stub: Stub) -> None:
    body = status_body(404, "NotFound", 'namespaces "ml" not found', kind="namespaces", name="ml")
    stub.refuse("POST", "rayjobs", 404, body)
    error = fault(lambda: jobs().submit(REQUEST))
    assert "Namespace `ml` not found" in error.what
    assert error.where == "kubernetes.namespace: ml"


@pytest.mark.parametrize("verb", ["status", "cancel", "logs"])
def test_404_there_is_no_such_job(stub: Stub, verb: str) -> None:
    calls = {
        "status": lambda: jobs().status("gone"),
        "cancel": lambda: jobs().cancel("gone"),
        "logs": lambda: list(jobs().logs("gone", follow=True)),
    }
    assert "No rayjob named `gone` in namespace ml" in fault(calls[verb]).what


@pytest.mark.parametrize(
    ("run", "says", "fix"),
    [(RUN, f"belongs to {RUN} and is running", "guitarfish jobs cancel"), ("x", "belongs to x", "kubectl delete")],
)
def test_409_says_whose_the_name_is_and_how_it_stands(stub: Stub, run: str, says: str, fix: str) -> None:
    stub.job(RUN, deployment="Running", status="RUNNING")["metadata"]["annotations"] = {"guitarfish.run": run}
    error = fault(lambda: jobs().submit(REQUEST))
    assert says in error.what
    assert fix in error.fix


def test_a_run_that_was_stopped_goes_on_when_it_is_submitted_again(stub: Stub) -> None:
    stub.job(RUN, deployment="Suspended", suspend=True)
    assert jobs().submit(REQUEST).job == RUN
    assert stub.bodies("PATCH") == [{"spec": {"suspend": False}}]
    stub.job(RUN, deployment="Failed", status="FAILED")
    stub.objects["rayjobs", RUN]["spec"] = {}
    assert jobs().submit(REQUEST).job == f"{RUN}-2"
    assert stub.objects["rayjobs", f"{RUN}-2"]["spec"]["entrypoint"] == jobs().manifest(REQUEST)["spec"]["entrypoint"]
    stub.objects["rayjobs", f"{RUN}-2"]["status"] = {"jobDeploymentStatus": "Complete", "jobStatus": "STOPPED"}
    assert jobs().submit(REQUEST).job == f"{RUN}-3"


def test_422_shows_the_servers_words(stub: Stub) -> None:
    said = 'RayJob.ray.io "x" is invalid: spec.rayClusterSpec: Required value'
    stub.refuse("POST", "rayjobs", 422, status_body(422, "Invalid", said))
    error = fault(lambda: jobs().submit(REQUEST))
    assert said in error.what
    assert "--dry-run" in error.fix


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_server_in_trouble_is_to_be_asked_again(stub: Stub, status: int) -> None:
    stub.refuse("GET", "rayjobs", status, "upstream error")
    error = fault(lambda: jobs().status(RUN))
    assert f"answered {status}" in error.what
    assert "Try again" in error.fix


def test_an_answer_that_is_no_json_is_not_taken_for_one(stub: Stub) -> None:
    stub.refuse("GET", "rayjobs", 200, "<html>log in first</html>")
    assert "not JSON" in fault(lambda: jobs().status(RUN)).what


def test_a_silent_server_is_not_waited_for(stub: Stub) -> None:
    stub.silent = True
    spec = KubernetesSpec(namespace="ml")
    error = fault(lambda: KubeJobs(spec, MACHINES, seconds=0.2).submit(REQUEST))
    assert "did not answer in time" in error.what


def test_nobody_listens(stub: Stub, tmp_path: Path) -> None:
    stub.kubeconfig.write_text(yaml.safe_dump(kubeconfig_of("http://127.0.0.1:1", TOKEN)))
    error = fault(lambda: jobs().status(RUN))
    assert "cannot be reached" in error.what
    assert error.where == "http://127.0.0.1:1"


def test_tls_to_a_server_that_cannot_be_trusted(stub: Stub) -> None:
    config = kubeconfig_of(f"https://127.0.0.1:{stub.port}", TOKEN)  # it speaks no TLS at all
    stub.kubeconfig.write_text(yaml.safe_dump(config))
    assert "certificate is not trusted" in fault(lambda: jobs().status(RUN)).what


def test_no_kubeconfig(stub: Stub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "missing"))
    assert "No kubeconfig was found" in fault(lambda: jobs().submit(REQUEST)).what


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (f"users: [{{name: me, user: {{token: {TOKEN}}}\nclusters: ]", "not valid YAML"),
        (f"token: {TOKEN}\n\t- broken", "line 2 is not valid YAML"),
        ("", "it has no current context"),
        (f"- {TOKEN}\n", "it has no current context"),
        (f"current-context: gone\ncontexts: []\nusers: [{{name: {TOKEN}}}]\n", "it has no current context"),
    ],
)
def test_a_broken_kubeconfig_is_told_without_its_text(stub: Stub, text: str, says: str) -> None:
    stub.kubeconfig.write_text(text)
    error = fault(lambda: jobs().submit(REQUEST))
    assert says in error.what
    assert error.where == str(stub.kubeconfig)


def test_a_context_that_is_not_there_or_leads_nowhere(stub: Stub) -> None:
    error = fault(lambda: jobs(context="stubb").submit(REQUEST))
    assert error.fix == "Did you mean `stub`? The kubeconfig has stub, other."
    assert "the cluster or the user of other is missing" in fault(lambda: jobs(context="other").submit(REQUEST)).what


def test_without_a_plan_nothing_is_submitted(stub: Stub) -> None:
    error = fault(lambda: KubeJobs(KubernetesSpec()).submit(REQUEST))
    assert "machines that" in error.what
    assert stub.requests == []
