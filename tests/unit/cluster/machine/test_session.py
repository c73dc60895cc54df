"""Where a Ray cluster is, and what Ray says of its nodes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.machine.session import Node, Session, _node, on_a_cluster


def session(*machines: Node, own: bool = False) -> Session:
    return Session(cpus=4, gpus=0, largest_node_gpus=0, nodes=1, own=own, logs=None, machines=machines)


def test_a_cluster_is_here_where_all_its_nodes_are() -> None:
    here, there = Node("127.0.0.1", 0), Node("203.0.113.7", 0)
    assert session(own=True).here
    assert session(here).here
    assert not session(here, there).here
    assert not session().here


def test_a_node_as_ray_tells_it() -> None:
    resources = {"CPU": 8.0, "GPU": 2.0, "accelerator_type:GeForce-RTX-4090": 1.0, "node:10.0.0.3": 1.0}
    assert _node({"NodeManagerAddress": "10.0.0.3", "Resources": resources}) == Node("10.0.0.3", 2, "GeForce-RTX-4090")
    assert _node({"NodeManagerAddress": "10.0.0.3", "Resources": {"CPU": 8.0}}) == Node("10.0.0.3", 0)


@pytest.mark.parametrize(
    ("address", "expected"), [("", False), ("local", False), ("auto", True), ("10.0.0.3:6379", True)]
)
def test_ray_address_names_a_cluster(address: str, expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    assert on_a_cluster() == expected
    monkeypatch.delenv("RAY_ADDRESS")
    assert not on_a_cluster()


CONNECT = """
from cluster.machine.session import connect
from runspec.errors import HardwareError
try:
    with connect():
        print("connected")
except HardwareError as error:
    print(error.what, error.where, sep="\\n")
"""


def tried(**environment: str) -> list[str]:
    """What the error says. In a process of its own: Ray keeps the token of a cluster that it once tried to start."""
    done = subprocess.run(
        [sys.executable, "-c", CONNECT],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    return done.stdout.splitlines()


def test_ray_that_cannot_be_started_says_where_its_logs_are(tmp_path: Path) -> None:
    in_the_way = tmp_path / "a-file"
    in_the_way.touch()
    what, where = tried(RAY_TMPDIR=str(in_the_way), RAY_ADDRESS="")
    assert "Ray cannot be started on this machine" in what
    assert where == f"{in_the_way}/ray/session_latest/logs"


def test_a_cluster_that_does_not_answer_is_named() -> None:
    what, where = tried(RAY_ADDRESS="not-an-address")
    assert "Ray cannot be reached" in what
    assert where == "RAY_ADDRESS=not-an-address"
