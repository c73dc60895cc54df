"""Racing and killed writers of the registry, each a real process, on a local folder and on a real S3 server."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.adapters import draft, write_adapter

from cluster.store.storage import Store, open_store
from registry.adapters import ANY, Registry
from runspec.errors import ConflictError

ROOT = Path(__file__).parents[2]
CHILD = Path(__file__).parents[1] / "support" / "registry_child.py"
WRITERS = 16
TURNS = 4


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """An empty store."""
    uri = str(tmp_path / "store") if request.param == "local" else request.getfixturevalue("fresh_s3_store_uri")
    return open_store(uri)


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """An adapter of 4 MB: writing it takes long enough to be killed in the middle."""
    return write_adapter(tmp_path / "adapter", size=4 << 20)


@pytest.fixture
def small_adapter(tmp_path: Path) -> Path:
    """An adapter that is published in a moment."""
    return write_adapter(tmp_path / "small")


def start(store: Store, *arguments: object) -> subprocess.Popen[str]:
    """A child that waits for `go`."""
    command = [sys.executable, str(CHILD), store.uri, *(str(argument) for argument in arguments)]
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    child = subprocess.Popen(command, stdin=-1, stdout=-1, stderr=-1, text=True, env=environment)
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n", child.communicate()[1]
    return child


def run_together(children: list[subprocess.Popen[str]]) -> list[str]:
    """Start all at once; what each printed."""
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    outputs = [child.communicate(timeout=120) for child in children]
    assert [child.returncode for child in children] == [0] * len(children), [error for _, error in outputs]
    return [output.strip() for output, _ in outputs]


def test_racing_publishers_get_different_versions(store: Store, adapter: Path) -> None:
    printed = run_together([start(store, "publish", adapter, 3) for _ in range(4)])
    versions = [int(version) for line in printed for version in line.split()]
    assert sorted(versions) == list(range(1, 13))
    assert Registry(store).versions("race") == list(range(1, 13))


def test_of_racing_moves_one_wins(store: Store, adapter: Path) -> None:
    registry = Registry(store)
    for _ in range(5):
        registry.publish("race", adapter, draft())
    registry.promote("race", 1, expected=None)
    printed = run_together([start(store, "move", version, 1) for version in (2, 3, 4, 5)])
    assert sorted(printed) == ["conflict", "conflict", "conflict", "moved 2"]
    assert registry.aliases("race")["prod"] == printed.index("moved 2") + 2
    assert [move.seq for move in registry.alias_history("race")] == [1, 2]


@pytest.mark.soak
def test_sixteen_writers_have_one_winner_a_turn(store: Store, small_adapter: Path) -> None:
    """Each owns two versions, so that the winner of one turn wants to move the alias in the next one too."""
    registry = Registry(store)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: registry.publish("race", small_adapter, draft()), range(2 * WRITERS + 1)))
    now = 2 * WRITERS + 1
    registry.promote("race", now, expected=None)
    with ThreadPoolExecutor(WRITERS) as pool:
        writers = list(pool.map(lambda number: start(store, "turns", number, number + WRITERS), range(1, WRITERS + 1)))
    winners = [now]
    for turn in range(2, 2 + TURNS):
        run_turn(writers, now)
        answers = [line_of(writer) for writer in writers]
        moved = [answer.split() for answer in answers if answer != "conflict"]
        assert len(moved) == 1, answers
        assert int(moved[0][1]) == turn
        now = int(moved[0][2])
        winners.append(now)
        assert registry.aliases("race") == {"prod": now}
    for writer in writers:
        assert writer.communicate(timeout=60)[1] == ""
    assert [move.version for move in registry.alias_history("race")] == winners


def run_turn(writers: list[subprocess.Popen[str]], expected: int) -> None:
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write(f"{expected}\n")
        writer.stdin.flush()


def line_of(writer: subprocess.Popen[str]) -> str:
    assert writer.stdout is not None
    return writer.stdout.readline().strip()


def test_moves_that_take_anything_all_happen(store: Store, adapter: Path) -> None:
    registry = Registry(store)
    versions = [registry.publish("race", adapter, draft()).version for _ in range(6)]
    with ThreadPoolExecutor(6) as pool:
        moves = list(pool.map(lambda version: registry.promote("race", version, expected=ANY), versions))
    history = registry.alias_history("race")
    assert sorted(move.seq for move in moves) == [1, 2, 3, 4, 5, 6]
    assert sorted(move.version for move in history) == versions
    assert registry.aliases("race") == {"prod": history[-1].version}


def test_exclusive_create_has_one_winner(store: Store) -> None:
    def write(number: int, path: str) -> bool:
        try:
            store.create(path, b"%d" % number * 1000)
        except ConflictError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        for number in range(6):
            path = f"claims/{number}.json"
            won = list(pool.map(lambda writer, path=path: write(writer, path), range(8)))
            assert won.count(True) == 1
            assert store.read(path) == b"%d" % won.index(True) * 1000


def test_concurrent_fetchers_share_one_whole_folder(store: Store, adapter: Path, tmp_path: Path) -> None:
    version = Registry(store).publish("race", adapter, draft()).version
    folder = tmp_path / "cache" / "race" / str(version)
    printed = run_together([start(store, "fetch", version, folder) for _ in range(4)])
    assert printed == [str(folder)] * 4
    assert sorted(os.listdir(folder.parent)) == [folder.name]
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        assert (folder / name).read_bytes() == (adapter / name).read_bytes()


@pytest.mark.parametrize("write", [1, 2, 3, 4])
@pytest.mark.parametrize("moment", ["before", "after"])
def test_killed_at_each_write(store: Store, adapter: Path, write: int, moment: str) -> None:
    registry = Registry(store)
    child = start(store, "publish-and-die", adapter, write, moment)
    child.communicate("go\n", timeout=60)
    assert child.returncode == -signal.SIGKILL
    whole = (write, moment) == (4, "after")
    assert registry.versions("race") == ([1] if whole else [])
    assert registry.names() == (["race"] if whole else [])
    next_version = registry.publish("race", adapter, draft()).version
    assert registry.verify("race", next_version).version == next_version


@pytest.mark.soak
def test_killed_at_random_moments(store: Store, adapter: Path) -> None:
    """Whatever is visible is whole, and the numbers of what is not are not used again."""
    generator = random.Random(1)
    registry = Registry(store)
    for _ in range(6):
        child = start(store, "publish", adapter, 1000)
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
        time.sleep(generator.uniform(0.05, 0.4))
        child.kill()
        child.communicate()
        for version in registry.versions("race")[-2:]:
            registry.verify("race", version)
    version = registry.publish("race", adapter, draft()).version
    visible = registry.versions("race")
    assert visible[-1] == version
    claimed = [int(name) for name in store.list("adapters/race/versions")]
    assert max(claimed) == version
    assert all(".incoming" not in path for path in store.walk())
    assert registry.fetch("race", version, adapter.parent / "fetched").is_dir()
