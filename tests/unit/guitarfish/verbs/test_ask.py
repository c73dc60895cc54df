"""`guitarfish ask` against a small HTTP server that speaks the chat endpoint."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler

import pytest
from support.http_server import serving

from guitarfish.__main__ import run


class Chat(BaseHTTPRequestHandler):
    """Two models: each answers with its own name and the question; any other is a 404."""

    def do_GET(self) -> None:
        self.reply(200, {"data": [{"id": "base"}, {"id": "homes"}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if body["model"] not in ("base", "homes"):
            self.reply(404, {"error": {"message": f"no model {body['model']}"}})
            return
        text = f"{body['model']} heard {body['messages'][-1]['content']} after {len(body['messages']) - 1}"
        self.reply(200, {"choices": [{"message": {"content": text}}]})

    def reply(self, status: int, value: object) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    """A server that lives as long as the test."""
    with serving(Chat) as address:
        yield address


def test_one_model_gives_the_bare_answer(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["ask", "homes", "hello", "--url", url]) == 0
    assert capsys.readouterr().out == "homes heard hello after 0\n"


def test_all_models_side_by_side(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["ask", "hello", "--url", f"{url}/v1", "--system", "be brief"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["base", "homes"]
    assert "base heard hello after 1" in lines[1]
    assert "homes heard hello after 1" in lines[1]


def test_json(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["ask", "base", "homes", "hello", "--url", url, "--json"]) == 0
    answers = json.loads(capsys.readouterr().out)["answers"]
    assert [answer["model"] for answer in answers] == ["base", "homes"]


def test_unknown_model(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["ask", "nobody", "hello", "--url", url]) == 2
    assert "no model nobody" in capsys.readouterr().err


def test_no_server(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["ask", "base", "hello", "--url", "http://127.0.0.1:9"]) == 2
    assert "guitarfish serve" in capsys.readouterr().err
