"""Aliases: names such as `prod` that point to versions. Each move is a file, written once; the last one counts.

Moves are numbered without gaps and created exclusively: a move is a compare-and-set on the previous one, and the
files are the history that a rollback needs.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Final

from cluster.machine.identity import whoami
from cluster.store.records import Record, damaged, parse_record
from cluster.store.storage import Store
from registry.references import check_alias, suggest
from runspec.errors import ConflictError, RegistryError
from runspec.strict import Strict


class Expected(enum.Enum):
    """What an alias is expected to point to when it is moved, besides a version or nothing."""

    ANY = "any"


ANY: Final = Expected.ANY
_CONTENDERS = 100


class AliasMove(Strict):
    """One move of an alias: aliases/<alias>/<seq>.json."""

    seq: int
    """1 for the first."""
    version: int
    """The version it points to from then on."""
    at: datetime
    by: str
    """user@host."""
    reason: str
    restores: int | None = None
    """For a rollback: the move that it goes back to."""


class Aliases:
    """The aliases of one adapter."""

    def __init__(self, store: Store, name: str) -> None:
        self._store = store
        self._name = name
        self._folder = f"adapters/{name}/aliases"

    def current(self) -> dict[str, int]:
        """Version by alias: one listing and one round of reads."""
        return current_versions(self._store, self._store.walk(self._folder)).get(self._name, {})

    def version(self, alias: str) -> int:
        """What an alias points to. Raises RegistryError if it does not exist."""
        last = max(self._seqs(alias), default=0)
        if not last:
            raise self._no_such_alias(alias)
        return read_move(self._store, self._path(alias, last)).version

    def history(self, alias: str) -> list[AliasMove]:
        """All moves, oldest first. Raises RegistryError."""
        paths = [self._path(alias, seq) for seq in sorted(self._seqs(alias))]
        if not paths:
            raise self._no_such_alias(alias)
        contents = self._store.read_many(paths)
        return [_parse(self._store, path, contents[path]) for path in paths]

    def move(self, alias: str, version: int, expected: int | Expected | None, reason: str) -> AliasMove:
        """Point an alias to a version if it points to what is expected; nothing is written if it points there already.

        Raises:
            ConflictError: it points elsewhere, or another writer was first.
        """
        check_alias(alias)
        for _ in range(_CONTENDERS):
            last = max(self._seqs(alias), default=0)
            now = self._last_move(alias, last, must_read=expected is not ANY)
            if expected is not ANY and (now.version if now else None) != expected:
                raise self._moved(alias, now, expected)
            if now is not None and now.version == version:
                return now
            try:
                return self._append(alias, last + 1, version, reason)
            except ConflictError:
                if expected is not ANY:
                    raise self._moved(alias, self._last_move(alias, last + 1, must_read=True), expected) from None
        what = f"Other writers keep moving `{self._name}@{alias}`."
        raise ConflictError(what, where=f"{self._store.uri}/{self._path(alias, last)}", fix="Try again.")

    def roll_back(self, alias: str, steps: int, reason: str) -> AliasMove:
        """Point an alias back to an earlier version, by a new move.

        Raises:
            RegistryError: there is no version that far back.
            ConflictError: another writer moved it meanwhile.
        """
        moves = self.history(alias)
        before = trail(moves)
        if not 1 <= steps < len(before):
            versions = ", ".join(str(move.version) for move in before)
            raise RegistryError(
                f"Cannot roll `{self._name}@{alias}` back by {steps}: its versions, oldest first, are {versions}.",
                where=f"{self._store.uri}/{self._folder}/{alias}",
                fix=f"Promote the version you want: guitarfish adapters promote {self._name}@VERSION --alias {alias}",
            )
        target = before[-1 - steps]
        text = reason or f"rolled back from {moves[-1].version}"
        try:
            return self._append(alias, moves[-1].seq + 1, target.version, text, restores=target.seq)
        except ConflictError:
            now = self._last_move(alias, moves[-1].seq + 1, must_read=True)
            raise self._moved(alias, now, moves[-1].version) from None

    def _append(self, alias: str, seq: int, version: int, reason: str, restores: int | None = None) -> AliasMove:
        move = AliasMove(seq=seq, version=version, at=datetime.now(UTC), by=whoami(), reason=reason, restores=restores)
        Record(self._store, self._path(alias, seq), AliasMove).write(move)
        return move

    def _last_move(self, alias: str, last: int, *, must_read: bool) -> AliasMove | None:
        if not last:
            return None
        try:
            return read_move(self._store, self._path(alias, last))
        except RegistryError:
            if must_read:
                raise
            return None  # the next move replaces a damaged one, if it expects nothing

    def _seqs(self, alias: str) -> list[int]:
        check_alias(alias)
        names = self._store.list(f"{self._folder}/{alias}")
        return [int(stem) for name in names if (stem := name.removesuffix(".json")).isdigit()]

    def _path(self, alias: str, seq: int) -> str:
        return f"{self._folder}/{alias}/{seq}.json"

    def _no_such_alias(self, alias: str) -> RegistryError:
        known = self._store.list(self._folder)
        none = f"Point it to a version: guitarfish adapters promote {self._name}@VERSION --alias {alias}"
        what = f"Adapter `{self._name}` has no alias `{alias}`."
        return RegistryError(what, where=f"{self._store.uri}/{self._folder}", fix=suggest(alias, known, none))

    def _moved(self, alias: str, now: AliasMove | None, expected: int | Expected | None) -> ConflictError:
        points = f"points to version {now.version} (moved by {now.by})" if now else "does not exist"
        wanted = f"to point to version {expected}" if isinstance(expected, int) else "not to exist"
        return ConflictError(
            f"`{self._name}@{alias}` {points}, but it was expected {wanted}.",
            where=f"{self._store.uri}/{self._folder}/{alias}",
            fix="Check what it points to now, then move it again.",
        )


def trail(moves: Sequence[AliasMove]) -> list[AliasMove]:
    """The moves that a rollback goes back along, oldest first: a rollback drops those it skipped.

    After moves to 1, 2, 3 and one rollback to 2, the next goes to 1, not to 3.
    """
    kept: list[AliasMove] = []
    for move in moves:
        if move.restores is not None:
            while kept and kept[-1].seq != move.restores:
                kept.pop()
        if not kept or kept[-1].version != move.version:
            kept.append(move)
    return kept


def current_versions(store: Store, paths: Iterable[str]) -> dict[str, dict[str, int]]:
    """Version by alias by adapter, from the paths of all moves; the last moves are read together."""
    last: dict[tuple[str, str], int] = {}
    for path in paths:
        parts = path.split("/")
        if len(parts) == 5 and parts[2] == "aliases" and (stem := parts[4].removesuffix(".json")).isdigit():
            key = (parts[1], parts[3])
            last[key] = max(last.get(key, 0), int(stem))
    where = {key: f"adapters/{key[0]}/aliases/{key[1]}/{seq}.json" for key, seq in sorted(last.items())}
    contents = store.read_many(list(where.values()))
    found: dict[str, dict[str, int]] = {}
    for (name, alias), path in where.items():
        found.setdefault(name, {})[alias] = _parse(store, path, contents[path]).version
    return found


def read_move(store: Store, path: str) -> AliasMove:
    """One move. Raises RegistryError where it is damaged."""
    return _parse(store, path, store.read(path))


def _parse(store: Store, path: str, content: bytes) -> AliasMove:
    _, name, _, alias, _ = path.split("/")
    fix = f"Point the alias again: guitarfish adapters promote {name}@VERSION --alias {alias}"
    move = parse_record(store, path, content, AliasMove, fix=fix, kind=RegistryError)
    if f"{move.seq}.json" != path.rpartition("/")[2]:
        raise damaged(store, path, f"it is move {move.seq}", fix=fix, kind=RegistryError)
    return move
