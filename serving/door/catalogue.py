"""Names that clients use, resolved to immutable versions through the registry, and cached for a second."""

from __future__ import annotations

import asyncio
import difflib
import logging
import re
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from registry.adapters import Registry
from registry.card import AdapterCard
from registry.references import DEFAULT_ALIAS
from runspec.errors import GuitarfishError, RegistryError, ServingError, StoreError
from runspec.publish import NAME_PATTERN
from serving.engine.adapters import check_card
from serving.plan import ServePlan

log = logging.getLogger(__name__)

_NAME = NAME_PATTERN.strip("^$")
REFERENCE = re.compile(rf"{_NAME}(@{_NAME})?", re.ASCII)
"""What a client may ask for: nothing else reaches the store, whose paths contain it."""
REMEMBERED = 4096
"""Names cached at most: clients choose what they ask for."""


@dataclass(frozen=True)
class Served:
    """What answers a request.

    Attributes:
        model: the immutable name that the engine gets and the answer has: the base's, or `NAME@VERSION`.
        card: the adapter's card; None for the base model.
    """

    model: str
    card: AdapterCard | None


@dataclass
class _Entry:
    answer: Served | GuitarfishError
    at: float


class Catalogue:
    """Resolves names off the event loop, with at most one look-up for each name at a time.

    A result is used for `plan.alias_seconds`; that of an exact version for ever, because versions never change. While
    the store does not answer, the last result is used: serving goes on without the store.
    """

    def __init__(self, plan: ServePlan, registry: Registry, clock: Callable[[], float] = time.monotonic) -> None:
        self._plan = plan
        self._registry = registry
        self._clock = clock
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._lookups: dict[str, asyncio.Task[Served | GuitarfishError]] = {}
        self._cards: dict[tuple[str, int], AdapterCard] = {}
        self._listed: dict[str, Served] = {}
        self._listed_at: float | None = None

    async def resolve(self, model: str | None) -> Served:
        """What answers for a name: the base's, `NAME` (alias prod), `NAME@ALIAS` or `NAME@VERSION`.

        Raises:
            RegistryError: the adapter, version or alias does not exist.
            ServingError: it exists, but this server cannot serve it.
            StoreError: the store does not answer, and this name was never resolved.
        """
        if model is None or model == self._plan.base_name:
            return Served(self._plan.base_name, None)
        if not REFERENCE.fullmatch(model):
            raise await self._no_such_name(model)
        entry = self._entries.get(model)
        if entry is None or self._stale(model, entry):
            entry = await self._refresh(model)
        if isinstance(entry.answer, GuitarfishError):
            raise entry.answer.with_traceback(None)
        return entry.answer

    async def listing(self) -> dict[str, Served]:
        """Every name that is answered, and what answers; the last known ones if the store does not answer."""
        now = self._clock()
        if self._listed_at is None or now - self._listed_at > self._plan.alias_seconds:
            try:
                self._listed = await asyncio.to_thread(self._list)
            except StoreError as error:
                log.warning("the store does not answer; using the last known names: %s", error.what)
            self._listed_at = now
        return {self._plan.base_name: Served(self._plan.base_name, None)} | self._listed

    async def _no_such_name(self, model: str) -> RegistryError:
        near = difflib.get_close_matches(model.lower(), await self.listing(), n=1)
        fix = f"Did you mean `{near[0]}`?" if near else ""
        return RegistryError(f"Model {model!r} not found.", where="model", fix=fix)

    def _stale(self, model: str, entry: _Entry) -> bool:
        exact = isinstance(entry.answer, Served) and entry.answer.model == model
        return not exact and self._clock() - entry.at > self._plan.alias_seconds

    async def _refresh(self, model: str) -> _Entry:
        if model not in self._lookups:
            task = asyncio.create_task(asyncio.to_thread(self._look_up, model))
            task.add_done_callback(lambda _: self._lookups.pop(model, None))
            self._lookups[model] = task
        answer = await asyncio.shield(self._lookups[model])
        before = self._entries.get(model)
        if isinstance(answer, StoreError) and before is not None and isinstance(before.answer, Served):
            log.warning("the store does not answer; %s stays at %s: %s", model, before.answer.model, answer.what)
            answer = before.answer
        entry = _Entry(answer, self._clock())
        self._entries[model] = entry
        self._entries.move_to_end(model)
        while len(self._entries) > REMEMBERED:
            self._entries.popitem(last=False)
        return entry

    def _look_up(self, model: str) -> Served | GuitarfishError:
        try:
            found = self._registry.resolve(model)
            return self._served(found.name, found.version)
        except GuitarfishError as error:
            return error

    def _served(self, name: str, version: int) -> Served:
        card = self._cards.get((name, version)) or self._registry.card(name, version)
        self._cards[name, version] = card  # cards never change
        check_card(card, self._plan)
        return Served(f"{name}@{version}", card)

    def _list(self) -> dict[str, Served]:
        listed: dict[str, Served] = {}
        for entry in self._registry.entries():
            name, aliases = entry.name, entry.aliases
            wanted = {name: aliases[DEFAULT_ALIAS]} if DEFAULT_ALIAS in aliases else {}
            wanted |= {f"{name}@{alias}": version for alias, version in aliases.items()}
            wanted |= {f"{name}@{version}": version for version in entry.versions}
            for reference, version in wanted.items():
                with suppress(ServingError):  # for another base model, or too large
                    listed[reference] = self._served(name, version)
        return listed
