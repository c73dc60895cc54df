"""Bad input of `keys`, `serve` and `ask`: each is refused with its place and the way out, exit code 2, no traceback."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from support.command_line import GOOD
from support.http_server import serving

from cluster.store.storage import open_store
from guitarfish.__main__ import run
from registry.adapters import Registry
from registry.card import CardDraft
from serving.door.keys import create_key, revoke_key

BAD_FILES: dict[str, tuple[str, list[str]]] = {
    "keys or not": ("serving: {api_keys: maybe}\n", ["`serving.api_keys`", "auto", "required", "off", "run.yaml:6:21"]),
    "misspelt": ("serving: {api_key: off}\n", ["Unknown key `serving.api_key`.", "Did you mean `serving.api_keys`?"]),
    "nobody may wait": ("serving: {max_queued_requests: 0}\n", ["max_queued_requests` is 0", "at least 1"]),
    "no target": ("serving: {target_ongoing_requests: 0}\n", ["target_ongoing_requests` is 0", "at least 1"]),
    "up before the load": ("serving: {scale_up_after_s: -1}\n", ["scale_up_after_s` is -1", "at least 0"]),
    "down before it ends": ("serving: {scale_down_after_s: -5}\n", ["scale_down_after_s` is -5", "at least 0"]),
    "records all the time": ("serving: {usage_every_s: 0}\n", ["usage_every_s` is 0", "more than 0"]),
    "fewer at most than always": (
        "serving: {min_replicas: 3, max_replicas: 2}\n",
        ["`serving.max_replicas` is 2", "`serving.min_replicas` is 3"],
    ),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_run_files(case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "run.yaml"
    text, wanted = BAD_FILES[case]
    file.write_text(GOOD + text)
    refused(["serve", str(file)], wanted, capsys)


def refused(words: list[str], wanted: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What a command line prints that exits 2."""
    assert run(words) == 2
    shown = capsys.readouterr().err
    assert "Traceback" not in shown
    flat = " ".join(shown.split())
    for one in wanted:
        assert one in flat, flat
    return flat


# --- keys


@pytest.fixture
def store(tmp_path: Path) -> str:
    """A store with an adapter `smart-home`, and two keys called `twin`."""
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 8, "lora_alpha": 16}))
    save_file({"lora_A.weight": np.ones((8, 4), np.float32)}, folder / "adapter_model.safetensors")
    values = {"base_model": "m", "base_digest": "hub:m@1", "base_kind": "hub", "rank": 8, "alpha": 16, "rslora": False}
    more = {"targets": ["q_proj"], "method": "sft", "run_id": "", "data_digest": "", "canary": None}
    opened = open_store(str(tmp_path / "store"))
    Registry(opened).publish("smart-home", folder, CardDraft.model_validate(values | more))
    for _ in range(2):
        create_key(opened, "twin", adapters=None, base=True)
    return str(tmp_path / "store")


BAD_KEYS: dict[str, tuple[list[str], list[str]]] = {
    "for nothing": (["create", "me"], ["This key gives access to nothing", "--adapter NAME, --all-adapters or --base"]),
    "misspelt adapter": (
        ["create", "me", "--adapter", "smart-hose"],
        ["Adapter `smart-hose` not found.", "Did you mean `smart-home`?"],
    ),
    "a version": (["create", "me", "--adapter", "smart-home@3"], ["is a version or an alias", "--adapter smart-home"]),
    "no adapter's name": (
        ["create", "me", "--adapter", "../x"],
        ["`../x` is not a valid adapter name.", "lower-case letters"],
    ),
    "all and one": (
        ["create", "me", "--all-adapters", "--adapter", "smart-home"],
        ["--all-adapters and --adapter exclude each other"],
    ),
    "a name with spaces": (["create", "My Key", "--base"], ["`My Key` is not a valid name", "lower-case letters"]),
    "over at once": (
        ["create", "me", "--base", "--expires-days", "0"],
        ["'--expires-days'", "greater than or equal to 1"],
    ),
    "unknown": (["revoke", "nobody"], ["Key `nobody` not found.", "Use one of: ", "(twin)"]),
    "two of a name": (["revoke", "twin"], ["2 keys are named `twin`.", "Use one of the ids: "]),
    "no verb": (["remove", "twin"], ["No such command 'remove'"]),
}


@pytest.mark.parametrize("case", BAD_KEYS)
def test_keys(case: str, store: str, capsys: pytest.CaptureFixture[str]) -> None:
    words, wanted = BAD_KEYS[case]
    before = open_store(store).walk("keys")
    refused(["keys", *words, "--store", store], wanted, capsys)
    assert open_store(store).walk("keys") == before


def test_a_whole_key_given_to_revoke_is_not_printed(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    token = f"gf-0badc0de-{'planted' * 6}x"
    shown = refused(["keys", "revoke", token, "--store", store], ["This is a key, not its id.", "Use its id"], capsys)
    assert "planted" not in shown


def test_a_damaged_key_is_named(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    open_store(store).create("keys/0badc0de/key.json", b'{"secret_sha256": "planted"}')
    fragments = ["The record keys/0badc0de/key.json is damaged", "create another key"]
    shown = refused(["keys", "list", "--store", store], fragments, capsys)
    assert "planted" not in shown


@pytest.mark.parametrize("store", ["s4://bucket/x", "s3://", ""])
def test_stores_that_are_none(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    refused(["keys", "list", "--store", store], ["store"], capsys)


# --- serve


@pytest.fixture
def served(tmp_path: Path) -> Path:
    """A run file whose base model is a folder that only looks like one, with keys asked for."""
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text(json.dumps({"model_type": "llama", "dtype": "float32"}))
    save_file({"w": np.ones((2, 2), np.float32)}, model / "model.safetensors")
    file = tmp_path / "run.yaml"
    text = GOOD.replace("{kind: hub, id: some/model}", f"{{kind: folder, path: {model}}}")
    file.write_text(f"{text}store: {tmp_path / 'store'}\nserving: {{api_keys: required, port: 18473}}\n")
    return file


def test_a_server_without_a_valid_key_is_not_started(served: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = ["requires API keys, but its store has no valid one", "guitarfish keys create NAME"]
    refused(["serve", str(served)], wanted, capsys)
    opened = open_store(str(served.parent / "store"))
    revoke_key(opened, create_key(opened, "gone", adapters=None, base=True).record.id)
    create_key(opened, "over", adapters=None, base=True, lifetime=timedelta(microseconds=1))
    refused(["serve", str(served)], wanted, capsys)


def test_a_server_on_a_public_address_requires_keys(served: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["serve", str(served), "--set", "serving.api_keys=auto", "--set", "serving.host=0.0.0.0"]
    refused(words, ["serving.api_keys: auto, serving.host: 0.0.0.0", "requires API keys"], capsys)


# --- ask


class Locked(BaseHTTPRequestHandler):
    """A server that takes one key."""

    def do_GET(self) -> None:
        known = self.headers["Authorization"] == f"Bearer {KEY}"
        body = {"data": [{"id": "base"}]} if known else {"error": {"message": "The API key is not known here."}}
        self.reply(200 if known else 401, body)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        known = self.headers["Authorization"] == f"Bearer {KEY}"
        message = "The server is busy." if known else "The API key is not known here."
        self.reply(429 if known else 401, {"error": {"message": message}})

    def reply(self, status: int, value: object) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        if status == 429:
            self.send_header("Retry-After", "7")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        pass


KEY = f"gf-0badc0de-{'planted' * 6}x"


@pytest.fixture
def url() -> Iterator[str]:
    with serving(Locked) as address:
        yield address


@pytest.mark.parametrize("words", [["hello"], ["base", "hello"]])
@pytest.mark.parametrize("key", ["", f"gf-0badc0de-{'wrong' * 8}wro"])
def test_the_wrong_key_or_none(
    words: list[str], key: str, url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GUITARFISH_API_KEY", key)
    shown = refused(["ask", *words, "--url", url], ["answered 401", "GUITARFISH_API_KEY", "keys create"], capsys)
    assert "wrong" not in shown


@pytest.mark.parametrize("key", [f"{KEY}\nX: y", f"{KEY} {KEY}", "gf-ключ", "\x07planted"])
def test_a_key_that_cannot_be_sent_is_not_printed(
    key: str, url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GUITARFISH_API_KEY", key)
    shown = refused(["ask", "base", "hello", "--url", url], ["GUITARFISH_API_KEY is not an API key"], capsys)
    assert "planted" not in shown


def test_a_busy_server_says_when_to_come_back(
    url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GUITARFISH_API_KEY", f" {KEY}\n")  # as a file read by the shell may give it
    refused(["ask", "base", "hello", "--url", url], ["answered 429: The server is busy.", "Wait 7 s"], capsys)
