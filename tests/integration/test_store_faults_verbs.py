"""A store on S3 that cannot be used, met through the command line: what is said, the exit code, and no secret in it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from support.tiny_model import write_rows, write_run_file, write_tiny_model

from cluster.store.storage import open_store
from guitarfish.__main__ import run

WRONG_SECRET = "planted-secret-0123456789"
WRONG_TOKEN = "planted-token-0123456789"
BUCKET = "guitarfish-tests"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("faults")
    write_tiny_model(made / "model")
    write_rows(made / "rows.jsonl", 40)
    return made


FAULTS: dict[str, tuple[str, dict[str, str], tuple[str, str]]] = {
    "wrong secret": (
        f"s3://{BUCKET}/team",
        {"AWS_SECRET_ACCESS_KEY": WRONG_SECRET},
        ("secret key|Access to the store is denied", "Check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
    ),
    "missing bucket": ("s3://no-such-bucket/team", {}, ("Bucket `no-such-bucket` not found", "Create it")),
    "bad session token": (
        f"s3://{BUCKET}/team",
        {"AWS_SESSION_TOKEN": WRONG_TOKEN, "AWS_SECRET_ACCESS_KEY": WRONG_SECRET},
        ("access key|secret key|token|denied", "Check AWS_"),
    ),
    "no server": (
        f"s3://{BUCKET}/team",
        {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"},
        ("does not answer", "Check AWS_ENDPOINT_URL"),
    ),
    "credentials in the endpoint": (
        f"s3://{BUCKET}/team",
        {"AWS_ENDPOINT_URL": f"http://me:{WRONG_SECRET}@127.0.0.1:1"},
        ("AWS_ENDPOINT_URL has a user or a password", "http(s)://host:port"),
    ),
    "credentials in the URI": (
        f"s3://me:{WRONG_SECRET}@{BUCKET}/team",
        {},
        ("a user, a password or a query", "AWS_"),
    ),
    "token in the URI": (f"s3://{BUCKET}/team?token={WRONG_TOKEN}", {}, ("a user, a password or a query", "AWS_")),
}
HUB = "model.source={kind: hub, id: some/model}"
VERBS: dict[str, list[str]] = {
    "runs": ["runs", "list", "--store", "STORE"],
    "adapters": ["adapters", "list", "--store", "STORE"],
    "train": ["train", "RUN", "--set", "store=STORE"],
    "resume": ["train", "--resume", "tiny-x", "--store", "STORE"],
    "deploy": ["deploy", "RUN", "--set", "store=STORE", "--set", "HUB", "--memory", "8"],
    "serve": ["serve", "RUN", "--set", "store=STORE", "--set", "serving.max_model_len=512"],
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("verb", VERBS)
def test_a_store_that_cannot_be_used(
    new_s3_clients: None,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    verb: str,
    fault: str,
) -> None:
    uri, environment, (what, fix) = FAULTS[fault]
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(folder)
    run_file = str(write_run_file(folder))
    words = [word.replace("STORE", uri).replace("RUN", run_file).replace("HUB", HUB) for word in VERBS[verb]]
    assert run([*words, "--json"]) == 2
    printed = capfd.readouterr()
    assert re.search(what, printed.err), printed.err
    assert fix in printed.err
    assert "Traceback" not in printed.err
    assert json.loads(printed.out)["error"]["exit_code"] == 2
    for secret in (WRONG_SECRET, WRONG_TOKEN):
        assert secret not in printed.err + printed.out


def test_a_service_that_asks_for_keys_is_not_deployed_before_somebody_has_one(
    fresh_s3_store_uri: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    run_file = str(write_run_file(folder, store=fresh_s3_store_uri))
    call = ["deploy", run_file, "--set", HUB, "--memory", "8", "--context", "nowhere"]
    assert run(call) == 2
    assert "its store has no valid one" in capfd.readouterr().err
    assert run(["keys", "create", "somebody", "--base", "--store", fresh_s3_store_uri]) == 0
    token = capfd.readouterr().out.strip()
    assert run(call) == 2
    printed = capfd.readouterr()
    assert "kubeconfig" in printed.err
    assert token not in printed.err + printed.out


def test_nothing_was_written_by_any_of_them(s3_endpoint: str) -> None:
    """A refused command leaves no run behind, not in the bucket that is there either."""
    assert open_store(f"s3://{BUCKET}/team").list("runs") == []
