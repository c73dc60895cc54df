"""API keys: what is stored, which are accepted, and what happens while the store does not answer."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cluster.store.storage import Store
from runspec.errors import ServingError, StoreError
from serving.door.keyring import KeyRing, Refusal
from serving.door.keys import TOKEN, KeyRecord, create_key, list_keys, revoke_key


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class CutOff(Store):
    """A store that can be cut off, as a network does, and counts how often it is listed."""

    silent = False
    listed = 0

    def walk(self, prefix: str = "") -> list[str]:
        self.listed += 1
        if self.silent:
            raise StoreError("The store does not answer.")
        return super().walk(prefix)


@pytest.fixture
def store(tmp_path: Path) -> CutOff:
    return CutOff(str(tmp_path / "store"))


@pytest.fixture
def clock() -> Clock:
    return Clock()


def admit(ring: KeyRing, *headers: str | None) -> list[KeyRecord | Refusal]:
    async def all_at_once() -> Any:
        return await asyncio.gather(*(ring.admit(header) for header in headers))

    return asyncio.run(all_at_once())


def test_only_a_digest_is_stored(store: CutOff) -> None:
    made = create_key(store, "alice", adapters=["b", "a", "b"], base=False)
    match = TOKEN.fullmatch(made.token)
    assert match
    content = store.read(f"keys/{made.record.id}/key.json").decode()
    assert match["secret"] not in content
    assert match["secret"] not in repr(made)
    assert made.record.adapters == ("a", "b")
    assert [key.record for key in list_keys(store)] == [made.record]


def test_a_key_opens_what_it_is_for(store: CutOff) -> None:
    some = create_key(store, "some", adapters=["fruit"], base=False).record
    every = create_key(store, "every", adapters=None, base=False).record
    base = create_key(store, "base", adapters=[], base=True).record
    asked = ("fruit", "animal", None)
    assert [some.may_use(one) for one in asked] == [True, False, False]
    assert [every.may_use(one) for one in asked] == [True, True, False]
    assert [base.may_use(one) for one in asked] == [False, False, True]


def test_which_headers_are_accepted(store: CutOff, clock: Clock) -> None:
    good, other = create_key(store, "good", adapters=None, base=True), create_key(store, "o", adapters=None, base=True)
    over = create_key(store, "over", adapters=None, base=True, lifetime=timedelta(microseconds=1))
    ring = KeyRing(store, 1, clock)
    scheme = f"bearer   {good.token} "
    assert admit(ring, f"Bearer {good.token}", scheme) == [good.record, good.record]
    mixed = f"gf-{good.record.id}-{other.token[12:]}"
    wrong = [None, "", good.token, f"Basic {good.token}", f"Bearer {good.token}x", f"Bearer {mixed}"]
    wrong += [f"Bearer {over.token}", "Bearer gf-00000000-" + "a" * 43, f"Bearer {good.token} {good.token}"]
    refusals = admit(ring, *wrong)
    assert all(isinstance(one, Refusal) for one in refusals)
    for header, refusal in zip(wrong, refusals, strict=True):
        assert isinstance(refusal, Refusal)
        assert not header or header.partition(" ")[2] not in refusal.reason or not header.partition(" ")[2]


def test_only_its_holder_learns_that_a_key_has_expired(store: CutOff, clock: Clock) -> None:
    over = create_key(store, "over", adapters=None, base=True, lifetime=timedelta(microseconds=1))
    ring = KeyRing(store, 1, clock)
    holder, stranger = admit(ring, f"Bearer {over.token}", f"Bearer {over.token[:12]}{'a' * 43}")
    assert isinstance(holder, Refusal)
    assert "is expired" in holder.reason
    assert isinstance(stranger, Refusal)
    assert stranger.reason == "Unknown API key."


def test_the_store_is_listed_once_a_second_whatever_is_asked(store: CutOff, clock: Clock) -> None:
    made = create_key(store, "a", adapters=None, base=True)
    ring = KeyRing(store, 1, clock)
    admit(ring, *[f"Bearer {made.token}"] * 20, *[f"Bearer gf-{number:08x}-{'a' * 43}" for number in range(100)])
    assert store.listed == 1
    clock.now = 1.5
    admit(ring, f"Bearer {made.token}")
    assert store.listed == 2


def test_new_and_revoked_keys_are_noticed(store: CutOff, clock: Clock) -> None:
    ring = KeyRing(store, 1, clock)
    admit(ring, f"Bearer gf-00000000-{'a' * 43}")
    made = create_key(store, "new", adapters=None, base=True)
    assert isinstance(admit(ring, f"Bearer {made.token}")[0], Refusal)
    clock.now = 1.5
    assert admit(ring, f"Bearer {made.token}") == [made.record]
    revoke_key(store, made.record.id)
    clock.now = 3
    (refusal,) = admit(ring, f"Bearer {made.token}")
    assert isinstance(refusal, Refusal)
    assert "is revoked" in refusal.reason


def test_serving_goes_on_without_the_store(store: CutOff, clock: Clock) -> None:
    made = create_key(store, "a", adapters=None, base=True)
    ring = KeyRing(store, 1, clock)
    assert admit(ring, f"Bearer {made.token}") == [made.record]
    store.silent, clock.now = True, 100
    assert admit(ring, f"Bearer {made.token}") == [made.record]
    with pytest.raises(StoreError):
        admit(KeyRing(store, 1, clock), f"Bearer {made.token}")


def test_a_damaged_record_is_ignored_and_other_keys_work(store: CutOff, clock: Clock) -> None:
    good = create_key(store, "good", adapters=None, base=True)
    store.create("keys/0badc0de/key.json", b"{")
    copied = store.read(f"keys/{good.record.id}/key.json")
    store.create("keys/00c0ffee/key.json", copied)  # one key's record under another's id
    assert admit(KeyRing(store, 1, clock), f"Bearer {good.token}") == [good.record]
    assert isinstance(admit(KeyRing(store, 1, clock), f"Bearer gf-00c0ffee-{good.token[12:]}")[0], Refusal)
    with pytest.raises(StoreError, match="damaged"):
        list_keys(store)


def test_a_damaged_revocation_still_locks_out(store: CutOff, clock: Clock) -> None:
    made = create_key(store, "a", adapters=None, base=True)
    store.create(f"keys/{made.record.id}/revoked.json", b"not json")
    assert isinstance(admit(KeyRing(store, 1, clock), f"Bearer {made.token}")[0], Refusal)


def test_revoking_twice_keeps_the_first(store: CutOff) -> None:
    made = create_key(store, "a", adapters=None, base=True)
    first = revoke_key(store, "a")
    assert revoke_key(store, made.record.id) == first
    assert first.state(datetime.now(UTC)) == "revoked"


def test_keys_of_one_name_are_told_apart_by_id(store: CutOff) -> None:
    ids = {create_key(store, "a", adapters=None, base=True).record.id for _ in range(2)}
    with pytest.raises(ServingError, match="2 keys are named `a`") as caught:
        revoke_key(store, "a")
    assert all(one in caught.value.fix for one in ids)


def test_a_whole_key_on_the_command_line_is_not_repeated(store: CutOff) -> None:
    made = create_key(store, "a", adapters=None, base=True)
    with pytest.raises(ServingError) as caught:
        revoke_key(store, made.token)
    assert made.token[12:] not in str(caught.value)
