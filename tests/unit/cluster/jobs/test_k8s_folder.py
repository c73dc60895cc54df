"""The folder k8s/: valid manifests, overlays that render, an image made of what is here, a page that is true."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.ray_schemas import ROOT, problems_of_core

from cluster.jobs.ray_pods import USER_ID
from guitarfish.__main__ import run
from runspec.load import load_run

K8S = ROOT / "k8s"
KUSTOMIZATIONS = sorted(K8S.rglob("kustomization.yaml"))
OTHER_KINDS = ("PodMonitor",)
"""Kinds that are neither Kubernetes' own nor KubeRay's: their schemas are not here."""


def documents(file: Path) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all(file.read_text()) if document]


def manifests() -> list[tuple[Path, dict[str, Any]]]:
    files = [file for file in K8S.rglob("*.yaml") if file not in KUSTOMIZATIONS and file.name != "run.yaml"]
    return [(file, document) for file in sorted(files) for document in documents(file)]


def problems(manifest: dict[str, Any]) -> list[str]:
    return [] if manifest["kind"] in OTHER_KINDS else problems_of_core(manifest)


@pytest.mark.parametrize(
    ("file", "manifest"), manifests(), ids=[f"{file.name}-{each['kind']}" for file, each in manifests()]
)
def test_a_manifest_is_valid(file: Path, manifest: dict[str, Any]) -> None:
    assert problems(manifest) == []


def test_the_manifests_were_found() -> None:
    kinds = {manifest["kind"] for _, manifest in manifests()}
    assert {"Role", "RoleBinding", "ServiceAccount", "NetworkPolicy", "PersistentVolumeClaim", "Secret"} <= kinds


@pytest.mark.parametrize("file", KUSTOMIZATIONS, ids=[str(file.parent.relative_to(K8S)) for file in KUSTOMIZATIONS])
def test_a_kustomization_names_what_is_there(file: Path) -> None:
    [kustomization] = documents(file)
    assert set(kustomization) <= {"apiVersion", "kind", "namespace", "resources", "patches", "labels"}
    named = [*kustomization["resources"], *(patch["path"] for patch in kustomization.get("patches", []))]
    for name in named:
        place = file.parent / name
        assert place.is_file() or (place / "kustomization.yaml").is_file(), name
    beside = {each.name for each in file.parent.glob("*.yaml")} - {"kustomization.yaml"}
    assert beside == {name for name in named if name.endswith(".yaml")}


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="needs kubectl, which has kustomize in it")
@pytest.mark.parametrize("file", KUSTOMIZATIONS, ids=[str(file.parent.relative_to(K8S)) for file in KUSTOMIZATIONS])
def test_a_kustomization_renders(file: Path) -> None:
    command = ["kubectl", "kustomize", str(file.parent)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    rendered = list(yaml.safe_load_all(done.stdout))
    assert rendered
    for manifest in rendered:
        assert problems(manifest) == []
        assert manifest["kind"] == "Namespace" or manifest["metadata"]["namespace"] == "guitarfish"


def test_the_role_gives_what_the_client_asks_for_and_no_more() -> None:
    [role, _] = documents(K8S / "base" / "rbac.yaml")
    given = {(verb, name) for rule in role["rules"] for name in rule["resources"] for verb in rule["verbs"]}
    source = (ROOT / "cluster" / "jobs" / "kube_client.py").read_text()
    asked = {(verb, name) for verb, name in re.findall(r'_asked\("(\w+)", "?([\w/]+)"?,', source)}
    assert asked == {
        ("create", "plural"), ("patch", "plural"), ("get", "plural"), ("delete", "plural"), ("list", "pods"),
        ("get", "pods/log"),
    }  # fmt: skip
    jobs = {(verb, "rayjobs") for verb in ("create", "get", "patch", "delete")}
    services = {(verb, "rayservices") for verb in ("create", "get", "patch")}  # applying asks for all three
    assert given == jobs | services | {("list", "pods"), ("get", "pods/log")}


def test_the_example_secret_holds_nothing() -> None:
    [secret] = documents(K8S / "examples" / "secret.yaml")
    assert set(secret["stringData"].values()) == {""}
    assert "data" not in secret


def test_the_example_run_can_be_deployed(capsys: pytest.CaptureFixture[str]) -> None:
    file = K8S / "examples" / "run.yaml"
    settings = load_run(file).spec.kubernetes
    names = {(manifest["kind"], manifest["metadata"]["name"]) for _, manifest in manifests()}
    assert ("Namespace", settings.namespace) in names
    assert ("ServiceAccount", settings.service_account) in names
    assert ("Secret", settings.secret) in names
    assert ("PersistentVolumeClaim", settings.cache_claim) in names
    assert run(["deploy", str(file), "--dry-run"]) == 0
    assert "kind: RayService" in capsys.readouterr().out


def instructions() -> list[tuple[str, str]]:
    text = (K8S / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in lines]


def test_the_image_is_made_of_what_is_here() -> None:
    lets_through = [line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().split() if line[0] == "!"]
    rooms = set()
    for name, rest in instructions():
        if name == "COPY" and "--from=" not in rest:
            for source in rest.split()[:-1]:
                assert (ROOT / source).exists(), source
                assert any(fnmatch(source.rstrip("/"), pattern) for pattern in lets_through), source
                rooms.add(source.rstrip("/"))
    assert {"runspec", "cluster", "registry", "training", "serving", "tuning", "guitarfish", "locks"} <= rooms


def test_the_image_runs_as_the_user_of_the_pods_and_names_no_registry_of_packages() -> None:
    found = instructions()
    assert [rest for name, rest in found if name == "USER"] == [f"{USER_ID}:{USER_ID}"]
    assert any(f"useradd --uid {USER_ID} " in rest for name, rest in found if name == "RUN")
    assert "://" not in (K8S / "Dockerfile").read_text()
    versions = {rest.split()[0] for name, rest in found if name == "FROM"}
    assert versions == {"python:3.12-slim-bookworm"}  # one of the locks', and the same in both stages
    assert not [rest for name, rest in found if name in ("ENV", "ARG") and re.search("KEY|TOKEN|SECRET", rest)]


def calls(program: str) -> list[str]:
    lines = [line.strip() for line in (K8S / "README.md").read_text().splitlines() if line.startswith("    ")]
    return [line.split("  #")[0].strip() for line in lines if line.startswith(f"{program} ")]


def test_the_page_was_read() -> None:
    assert len(calls("guitarfish")) >= 6
    applied = [word for line in calls("kubectl") for word in shlex.split(line) if word.startswith("k8s/")]
    assert applied
    assert [path for path in applied if not (ROOT / path).exists()] == []
