"""Records: files of the store that hold one pydantic model as JSON, and never change once they are written."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from pydantic import BaseModel, ValidationError

from cluster.store.storage import Store
from runspec.errors import ConflictError, StoreError, UserError

T = TypeVar("T", bound=BaseModel)
RESTORE = "Restore the file from a backup, or start a new run."


def run_path(run_id: str, name: str = "") -> str:
    """The folder of a run, or a file or folder in it, below the store's root."""
    return f"runs/{run_id}/{name}".rstrip("/")


class Record(Generic[T]):
    """One record. Its value is read from the store at most once.

    Every method raises StoreError when the store fails, and when it reads a record that is damaged.

    Args:
        fix: for a record that is missing or damaged.
    """

    def __init__(self, store: Store, path: str, model: type[T], *, fix: str = RESTORE) -> None:
        self.path = path
        self._store, self._model, self._fix = store, model, fix
        self._value: T | None = None

    @property
    def where(self) -> str:
        return f"{self._store.uri}/{self.path}"

    def exists(self) -> bool:
        return self._value is not None or self._store.exists(self.path)

    def read(self) -> T:
        """Raises StoreError where the record is missing."""
        value = self.read_if_there()
        if value is None:
            raise StoreError(f"The record {self.path} is missing.", where=self.where, fix=self._fix)
        return value

    def read_if_there(self) -> T | None:
        if self._value is None and (content := self._store.read_if_there(self.path)) is not None:
            self.take(content)
        return self._value

    def take(self, content: bytes) -> None:
        """Take the value from the file's content, which was read together with others."""
        self._value = parse_record(self._store, self.path, content, self._model, fix=self._fix)

    def write(self, value: T) -> None:
        """Raises ConflictError where there is a record already."""
        self._store.create(self.path, value.model_dump_json(indent=1).encode())
        self._value = value

    def write_once(self, make: Callable[[], T]) -> T:
        """The value that is there, or `make()`, which is then written. Where another writer was first, its value."""
        there = self.read_if_there()
        if there is not None:
            return there
        try:
            self.write(made := make())
        except ConflictError:
            return self.read()
        return made


def read_together(store: Store, records: Iterable[Record[T]]) -> None:
    """Read records that are in the store in one round. Raises StoreError for the first that is damaged."""
    by_path = {record.path: record for record in records}
    for path, content in store.read_many(list(by_path)).items():
        by_path[path].take(content)


def parse_record(
    store: Store, path: str, content: bytes, model: type[T], *, fix: str = RESTORE, kind: type[UserError] = StoreError
) -> T:
    """A record's content as its model. Raises `kind` where it is damaged; the message quotes nothing of the content."""
    try:
        return model.model_validate_json(content)
    except ValidationError as error:
        raise damaged(store, path, describe(error), fix=fix, kind=kind) from None


def describe(error: ValidationError) -> str:
    """The first thing that is wrong, and its key."""
    first = error.errors(include_input=False)[0]
    key = ".".join(map(str, first["loc"]))
    return f"{key}: {first['msg']}" if key else first["msg"]


def damaged(
    store: Store, path: str, problem: str, *, fix: str = RESTORE, kind: type[UserError] = StoreError
) -> UserError:
    return kind(f"The record {path} is damaged: {problem}.", where=f"{store.uri}/{path}", fix=fix)
