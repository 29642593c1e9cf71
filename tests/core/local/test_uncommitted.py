"""Answers that wait for a commit or a read, alone and one after the other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from headway.core.errors import JournalError, JournalFullError, PayloadGoneError
from headway.core.interface import Later, Soon
from headway.core.later import Read, Then
from headway.core.local.uncommitted import Committed, Uncommitted


class Scripted(Later[int]):
    """A value that a test makes known, and what was asked of it."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.found: int | Exception = 0
        self.wake: Callable[[], object] = int

    def when_known(self, wake: Callable[[], object]) -> None:
        self.asked.append("when_known")
        self.wake = wake

    def value(self) -> int:
        if isinstance(self.found, Exception):
            raise self.found
        return self.found

    def hurry(self) -> None:
        self.asked.append("hurry")

    def cancel(self) -> None:
        self.asked.append("cancel")

    def know(self, found: int | Exception) -> None:
        """It is known."""
        self.found = found
        self.wake()


class Wakes:
    """How often it was called."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> None:
        self.times += 1


def test_a_change_wakes_who_waits_for_it_once_in_the_order_of_their_coming() -> None:
    change, order = Uncommitted(3, lambda: None), list[int]()
    for number in range(3):
        Committed(change, lambda: None).when_known(lambda number=number: order.append(number))  # type: ignore[misc]
    assert order == []
    change.wake()
    change.wake()
    assert (order, change.wakes) == ([0, 1, 2], ())


def test_who_comes_while_others_are_woken_is_woken_by_the_next() -> None:
    change, late = Uncommitted(3, lambda: None), Wakes()
    Committed(change, lambda: None).when_known(lambda: Committed(change, lambda: None).when_known(late))
    change.wake()
    assert late.times == 0
    change.wake()
    assert late.times == 1


def test_what_is_committed_has_the_value_of_that_moment() -> None:
    change, seen = Uncommitted(1, lambda: None), [1]
    later, woken = Committed(change, lambda: seen[-1]), Wakes()
    later.when_known(woken)
    # Neither changes anything: what is not committed cannot be told.
    later.hurry()
    later.cancel()
    assert woken.times == 0
    seen.append(2)
    change.wake()
    assert (woken.times, later.value()) == (1, 2)


def test_what_there_is_no_room_for_is_refused() -> None:
    change = Uncommitted(1, lambda: None)
    later, woken = Committed(change, lambda: 1), Wakes()
    later.when_known(woken)
    change.no_room = True
    change.wake()
    assert woken.times == 1
    with pytest.raises(JournalFullError):
        later.value()


def test_what_comes_of_a_committed_change_may_be_an_error() -> None:
    def gone() -> int:
        raise PayloadGoneError

    with pytest.raises(PayloadGoneError):
        Committed(Uncommitted(1, lambda: None), gone).value()


async def test_what_is_read_is_known_once_it_was() -> None:
    future = asyncio.get_running_loop().create_future()
    later, woken = Read[int](future), Wakes()
    later.when_known(woken)
    later.hurry()
    await asyncio.sleep(0)
    assert woken.times == 0
    future.set_result(4)
    await asyncio.sleep(0)
    assert (woken.times, later.value()) == (1, 4)


async def test_what_cannot_be_read_raises_what_came_of_it() -> None:
    future = asyncio.get_running_loop().create_future()
    later, woken = Read[int](future), Wakes()
    later.when_known(woken)
    future.set_exception(JournalError("it cannot be read"))
    await asyncio.sleep(0)
    assert woken.times == 1
    with pytest.raises(JournalError, match="it cannot be read"):
        later.value()


async def test_who_has_gone_is_not_woken_and_nothing_is_read() -> None:
    reading = asyncio.create_task(asyncio.sleep(60, 1))
    later, woken = Read[int](reading), Wakes()
    later.when_known(woken)
    later.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert woken.times == 0


def then(first: Later[int], found: Soon[int] | Exception) -> Then[int]:
    """``found`` comes of the value of ``first``."""

    def go_on(value: int) -> Soon[int]:
        if isinstance(found, Exception):
            raise found
        return found if isinstance(found, Later) else found + value

    return Then(first, go_on)


def test_what_follows_at_once_is_known_with_the_first() -> None:
    first, woken = Scripted(), Wakes()
    later = then(first, 40)
    later.when_known(woken)
    assert woken.times == 0
    first.know(2)
    assert (woken.times, later.value()) == (1, 42)


def test_what_follows_later_is_known_when_both_are() -> None:
    first, second, woken = Scripted(), Scripted(), Wakes()
    later = then(first, second)
    later.when_known(woken)
    first.know(2)
    assert (woken.times, second.asked) == (0, ["when_known"])
    second.know(7)
    assert (woken.times, later.value()) == (1, 7)


@pytest.mark.parametrize("where", ["first", "then", "second"])
def test_an_error_of_either_is_the_error_of_both_and_wakes_once(where: str) -> None:
    first, second, woken = Scripted(), Scripted(), Wakes()
    error = PayloadGoneError()
    later = then(first, error if where == "then" else second)
    later.when_known(woken)
    first.know(error if where == "first" else 1)
    assert second.asked == (["when_known"] if where == "second" else [])
    if where == "second":
        assert woken.times == 0
        second.know(error)
    assert woken.times == 1
    with pytest.raises(PayloadGoneError):
        later.value()


@pytest.mark.parametrize("what", ["hurry", "cancel"])
def test_who_hurries_or_goes_does_so_with_what_is_waited_for(what: str) -> None:
    first, second = Scripted(), Scripted()
    later = then(first, second)
    later.when_known(lambda: None)
    getattr(later, what)()
    assert (first.asked, second.asked) == (["when_known", what], [])
    first.know(1)
    getattr(later, what)()
    assert (first.asked, second.asked) == (["when_known", what], ["when_known", what])
