"""What is told of a job whose store is emptied while it is read: never that it is gone, nor of another job."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest
from headway.core.errors import MisdirectedError
from headway.core.ids import Ids
from headway.core.interface import Later
from headway.core.store.keys import Keyspace
from headway.core.store.record import FIELDS
from headway.core.store.store import Store
from headway.core.valkey.cache import Cache, Known

FACTS = {b"s": b"3", b"k": b"double", b"i": b"0", b"n": b"0", b"t": b"1"}
NO_FACTS: list[bytes | None] = [None] * len(FIELDS)


class Reply(Later[Any]):
    """A reply that comes when the test says."""

    def __init__(self) -> None:
        self._reply: Any = None
        self._wake: Callable[[], object] = int

    def when_known(self, wake: Callable[[], object]) -> None:
        self._wake = wake

    def value(self) -> Any:
        return self._reply

    def come(self, reply: Any) -> None:
        self._reply = reply
        self._wake()


class StoreOfTest:
    """The part of a store that a cache asks."""

    partitions = 1
    is_up = True

    def __init__(self) -> None:
        self.ids = Ids()
        self.replies: list[Reply] = []
        self.renewed = 0

    def keys_of(self, _: int) -> Keyspace:
        return Keyspace(0)

    def is_up_at(self, _: int) -> bool:
        return True

    def server_ms(self) -> int:
        return 0

    def ask(self, _: Keyspace, call: object) -> Reply:
        self.replies.append(Reply())
        return self.replies[-1]

    def renew(self) -> None:
        self.renewed += 1


@pytest.fixture
def store() -> StoreOfTest:
    return StoreOfTest()


@pytest.fixture
def cache(store: StoreOfTest) -> Cache:
    return Cache(cast("Store", store))


def asked(cache: Cache, sequence: int = 1) -> Later[Known]:
    """Ask for a job that is not kept here."""
    soon = cache.get(sequence)
    assert isinstance(soon, Later)
    soon.when_known(int)
    return soon


def test_a_job_that_is_missing_has_expired_under_the_same_marker(store: StoreOfTest, cache: Cache) -> None:
    soon = asked(cache)
    store.replies[0].come(NO_FACTS)
    store.replies[1].come(store.ids.marker)
    assert soon.value().facts is None
    assert store.renewed == 0


@pytest.mark.parametrize("marker", [None, b"01234567"])
def test_a_marker_that_is_gone_or_another_has_the_ids_learned_anew(
    store: StoreOfTest, cache: Cache, marker: bytes | None
) -> None:
    soon = asked(cache)
    store.replies[0].come(NO_FACTS)
    store.replies[1].come(marker)
    with pytest.raises(MisdirectedError):
        soon.value()
    assert store.renewed == 1


@pytest.mark.parametrize("at", ["facts", "marker"])
def test_ids_that_are_renewed_while_a_job_is_read_do_not_make_it_expired(
    store: StoreOfTest, cache: Cache, at: str
) -> None:
    soon = asked(cache)
    if at == "marker":
        store.replies[0].come(NO_FACTS)
    store.ids = Ids()
    cache.renew()
    if at == "facts":
        store.replies[0].come(NO_FACTS)
    for reply in store.replies[1:]:
        reply.come(store.ids.marker)
    with pytest.raises(MisdirectedError):
        soon.value()
    assert store.renewed == 0
    # Nothing of it is kept for the job that has this number now.
    assert len(cache) == 0


def test_another_job_with_the_number_is_not_told_as_the_one_of_before(store: StoreOfTest, cache: Cache) -> None:
    before = asked(cache)
    store.ids = Ids()
    cache.renew()
    after = asked(cache)
    assert len(store.replies) == 2, "the reading of before was shared"
    store.replies[0].come([FACTS.get(name) for name in FIELDS])
    with pytest.raises(MisdirectedError):
        before.value()
    store.replies[1].come(NO_FACTS)
    store.replies[2].come(store.ids.marker)
    assert after.value().facts is None


def test_so_many_jobs_are_kept_at_most_those_that_were_asked_for_last(store: StoreOfTest) -> None:
    cache = Cache(cast("Store", store), most=2)
    for sequence in (1, 2):
        asked(cache, sequence)
        store.replies[-1].come([FACTS.get(name) for name in FIELDS])
    assert isinstance(cache.get(1), Known)
    asked(cache, 3)
    store.replies[-1].come([FACTS.get(name) for name in FIELDS])
    assert len(cache) == 2
    assert [isinstance(cache.get(sequence), Known) for sequence in (1, 2, 3)] == [True, False, True]
