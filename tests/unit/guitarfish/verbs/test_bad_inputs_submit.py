"""Bad input of `guitarfish submit` and `guitarfish jobs`: refused with its place and the way out, before anything is
written or submitted, exit code 2, no traceback."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from support.http_server import serving

from cluster.jobs.jobs import Submission, record_submission
from cluster.store.storage import Store, open_store
from guitarfish.__main__ import run

GOOD = """\
name: my-run
store: {store}
model:
  source: {{kind: hub, id: some/model}}
data:
  source: {{kind: file, path: data.jsonl}}
"""
NOBODY = "http://127.0.0.1:9"


@pytest.fixture
def run_file(tmp_path: Path) -> Path:
    """A run file that is fine by itself, with a store on this machine."""
    (tmp_path / "data.jsonl").write_text('{"prompt": "a", "completion": "b"}\n' * 20)
    file = tmp_path / "run.yaml"
    file.write_text(GOOD.format(store=tmp_path / "store"))
    return file


class _Dashboard(BaseHTTPRequestHandler):
    """A cluster of one machine that is not this one, without GPUs and jobs."""

    def do_GET(self) -> None:
        node = {"node_ip": "203.0.113.7", "state": "ALIVE", "resources_total": {"CPU": 4}}
        answers = {
            "/api/version": (200, {"ray_version": "2.60.0"}),
            "/api/v0/nodes?detail=0&limit=10000": (200, {"data": {"result": {"result": [node]}}}),
        }
        status, body = answers.get(self.path, (404, {}))
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[str]:
    """Address of a cluster on another machine."""
    with serving(_Dashboard) as address:
        yield address


def refused(capsys: pytest.CaptureFixture[str], arguments: list[str], *fragments: str) -> None:
    """The command line is refused, and the message holds the fragments."""
    code = run(arguments)
    out, err = capsys.readouterr()
    assert code == 2, err
    assert "error: " in err
    assert "Traceback" not in err
    assert out == ""
    for fragment in fragments:
        assert fragment in err


COMMAND_LINES: dict[str, tuple[list[str], list[str]]] = {
    "no cluster": (["FILE"], ["--to is missing", "--to http://HOST:8265"]),
    "no run": (["--to", NOBODY], ["Give either a run file to start or a run to resume"]),
    "a file and a run": (["FILE", "--resume", "x", "--to", NOBODY], ["Give either a run file"]),
    "no address": (["FILE", "--to", "auto"], ["`auto` is not the address", "http://HOST:8265", "--to k8s"]),
    "misspelt k8s": (["FILE", "--to", "k8"], ["`k8` is not the address", "--to k8s"]),
    "Ray Client": (["FILE", "--to", "ray://head:10001"], ["ray:// is for Ray Client", "http://head:8265"]),
    "a password": (["FILE", "--to", "http://me:s3cret@head:8265"], ["RAY_AUTH_TOKEN", "http://***@head:8265"]),
    "nobody there": (["FILE", "--to", NOBODY], ["No Ray dashboard answers", NOBODY]),
    "no such host": (["FILE", "--to", "http://no-such-host.invalid:8265"], ["No Ray dashboard answers"]),
    "the cluster's own port": (["FILE", "--to", "127.0.0.1:6379"], ["Port 6379", "GCS", "8265"]),
    "context without Kubernetes": (["FILE", "--to", NOBODY, "--context", "a"], ["only be used with --to k8s"]),
    "local store": (["FILE", "--to", "k8s"], ["on other machines", "store", "s3://bucket/prefix"]),
    "local model": (
        ["FILE", "--to", "k8s", "--set", "store=s3://b/p", "--set", "model.source={kind: folder, path: here}"],
        ["model.source.path", "package:NAME/inside"],
    ),
    "no cards": (["FILE", "--to", "k8s", "--set", "store=s3://b/p"], ["accelerator is auto", "--hardware"]),
    "unknown cards": (
        ["FILE", "--to", "k8s", "--set", "store=s3://b/p", "--hardware", "2x RTX 4080"],
        ["No card `RTX 4080`", "`RTX 4090`?"],
    ),
    "too many cards": (
        ["FILE", "--to", "k8s", "--set", "store=s3://b/p", "--hardware", "2x L4"],
        ["--hardware names 2 x L4", "hardware.workers asks for 1", "--set hardware.workers=2"],
    ),
    "cards for a run on CPU": (
        ["FILE", "--to", "k8s", "--set", "store=s3://b/p", "--set", "hardware.accelerator=cpu", "--hardware", "L4"],
        ["accelerator is cpu", "names L4"],
    ),
    "bad run file": (["FILE", "--to", NOBODY, "--set", "lora.rnak=3"], ["Did you mean `lora.rank`?"]),
    "no such run": (["--resume", "nothing", "--to", NOBODY], ["No run named 'nothing'."]),
}  # fmt: skip


@pytest.mark.parametrize("case", COMMAND_LINES)
def test_bad_command_line_is_refused(case: str, run_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments, fragments = COMMAND_LINES[case]
    store = [] if "FILE" in arguments else ["--store", str(run_file.parent / "store")]
    refused(capsys, ["submit", *(str(run_file) if one == "FILE" else one for one in arguments), *store], *fragments)
    assert not (run_file.parent / "store").exists()


def test_a_secret_in_an_address_is_not_repeated(run_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(["submit", str(run_file), "--to", "http://me:s3cret@head:8265"])
    assert "s3cret" not in "".join(capsys.readouterr())


def test_a_local_store_and_a_cluster_behind_a_forwarded_port(
    run_file: Path, elsewhere: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The address is this machine's, the cluster is not."""
    refused(capsys, ["submit", str(run_file), "--to", elsewhere], "on other machines", "s3://bucket/prefix")
    assert not (run_file.parent / "store").exists()


def test_more_cards_than_the_cluster_has(run_file: Path, elsewhere: str, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["submit", str(run_file), "--to", elsewhere, "--set", "store=s3://b/p", "--hardware", "1x L4"]
    refused(capsys, line, "names 1 x L4", "the cluster has 0 GPUs")


@pytest.fixture
def begun(run_file: Path) -> tuple[Store, str]:
    """A run that was begun and not submitted."""
    store = open_store(str(run_file.parent / "store"))
    tree = {
        "name": "my-run",
        "store": store.uri,
        "model": {"source": {"kind": "hub", "id": "some/model"}},
        "data": {"source": {"kind": "file", "path": "/data.jsonl"}},
    }
    store.create_json("runs/my-run-1/spec.json", tree)
    return store, "my-run-1"


@pytest.mark.parametrize("verb", ["status", "logs", "cancel"])
def test_a_run_that_was_never_submitted(
    verb: str, begun: tuple[Store, str], capsys: pytest.CaptureFixture[str]
) -> None:
    store, run_id = begun
    refused(capsys, ["jobs", verb, run_id, "--store", store.uri], "was not submitted", "guitarfish runs show")


@pytest.mark.parametrize("verb", ["status", "logs", "cancel"])
def test_a_job_that_its_cluster_has_forgotten(
    verb: str, begun: tuple[Store, str], elsewhere: str, capsys: pytest.CaptureFixture[str]
) -> None:
    store, run_id = begun
    record_submission(store, run_id, Submission(target="ray", place=elsewhere, job=run_id))
    line = ["jobs", verb, run_id, "--store", store.uri]
    refused(capsys, line, f"knows no job `{run_id}`", "submit --resume", elsewhere)


def test_a_damaged_record_of_a_submission(begun: tuple[Store, str], capsys: pytest.CaptureFixture[str]) -> None:
    store, run_id = begun
    store.create(f"runs/{run_id}/submissions/1.json", b'{"target": "ray", "plaice": "x"}')
    line = ["jobs", "status", run_id, "--store", store.uri]
    refused(capsys, line, f"The record runs/{run_id}/submissions/1.json is damaged", "Move the file away")


def test_a_cluster_that_is_gone(begun: tuple[Store, str], capsys: pytest.CaptureFixture[str]) -> None:
    store, run_id = begun
    record_submission(store, run_id, Submission(target="ray", place=NOBODY, job=run_id))
    refused(capsys, ["jobs", "status", run_id, "--store", store.uri], "No Ray dashboard answers", NOBODY)


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [(["--set", "seed=1"], "--set cannot change"), (["--hardware", "L4"], "--hardware cannot change")],
)
def test_a_run_that_has_begun_is_not_changed(
    arguments: list[str], fragment: str, begun: tuple[Store, str], capsys: pytest.CaptureFixture[str]
) -> None:
    store, run_id = begun
    refused(capsys, ["submit", "--resume", run_id, "--to", NOBODY, "--store", store.uri, *arguments], fragment)


def test_a_run_whose_data_was_not_stored(
    begun: tuple[Store, str], elsewhere: str, capsys: pytest.CaptureFixture[str]
) -> None:
    store, run_id = begun
    line = ["submit", "--resume", run_id, "--to", elsewhere, "--store", store.uri]
    refused(capsys, line, "before its data was in the store", "Submit its run file again")
