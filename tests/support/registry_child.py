"""A publisher, mover or fetcher in a process of its own: what the races of test_registry_races.py start and kill.

Usage: registry_child.py STORE COMMAND ARGUMENTS...
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from support.adapters import draft

from cluster.store.storage import Store, open_store
from registry.adapters import Registry
from runspec.errors import ConflictError


class DyingStore(Store):
    """Kills its own process, as `kill -9` does, before or after its n-th write."""

    def __init__(self, uri: str, write: int, moment: str) -> None:
        super().__init__(uri)
        self.left = write
        self.moment = moment

    def create(self, path: str, data: bytes) -> None:
        """Write, or die."""
        self._die("before")
        super().create(path, data)
        self._die("after")

    def upload(self, local_file: Path, path: str) -> None:
        """Upload, or die."""
        self._die("before")
        super().upload(local_file, path)
        self._die("after")

    def _die(self, moment: str) -> None:
        if moment == "before":
            self.left -= 1
        if self.left == 0 and moment == self.moment:
            os.kill(os.getpid(), signal.SIGKILL)


def take_turn(registry: Registry, *, expected: int, mine: list[int]) -> str:
    """Move the alias from the version it is expected at to one of this writer's own, as all others try at this time."""
    target = next(version for version in mine if version != expected)
    try:
        return f"moved {registry.promote('race', target, 'prod', expected=expected).seq} {target}"
    except ConflictError:
        return "conflict"


def main() -> None:
    """Run one command; `go` on stdin starts it, so that all racers start together. Turns are started one by one."""
    uri, command, *arguments = sys.argv[1:]
    store = open_store(uri)
    store.exists("warm-up")
    print("ready", flush=True)
    if command != "turns":
        sys.stdin.readline()
    if command == "publish":
        folder, times = Path(arguments[0]), int(arguments[1])
        print(*(Registry(store).publish("race", folder, draft()).version for _ in range(times)), flush=True)
    elif command == "publish-and-die":
        folder, write, moment = Path(arguments[0]), int(arguments[1]), arguments[2]
        Registry(DyingStore(uri, write, moment)).publish("race", folder, draft())
    elif command == "move":
        try:
            move = Registry(store).promote("race", int(arguments[0]), "prod", expected=int(arguments[1]))
            print("moved", move.seq, flush=True)
        except ConflictError:
            print("conflict", flush=True)
    elif command == "turns":
        for line in sys.stdin:
            print(
                take_turn(Registry(store), expected=int(line), mine=[int(version) for version in arguments]), flush=True
            )
    elif command == "fetch":
        print(Registry(store).fetch("race", int(arguments[0]), Path(arguments[1])), flush=True)


if __name__ == "__main__":
    main()
