"""Declaring context managers: which there are, and those that cannot be one."""

import contextlib
import functools
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from headway.core.errors import TaskError
from headway.core.task import Lane
from headway.core.tasks.around import Arounds, declared
from headway.core.tasks.registry import Options, Registry


def plain(context: object) -> Iterator[None]:
    yield


async def on_loop(context: object) -> AsyncIterator[None]:
    yield


class Plain(contextlib.AbstractContextManager[None]):
    """A class of context managers."""

    def __init__(self, context: object) -> None: ...

    def __exit__(self, *_: object) -> None: ...


class OnLoop(contextlib.AbstractAsyncContextManager[None]):
    """A class of async ones."""

    def __init__(self, context: object) -> None: ...

    async def __aexit__(self, *_: object) -> None: ...


class Methods:
    """Objects that make them."""

    def method(self, context: object) -> Iterator[None]:
        yield

    async def __call__(self, context: object) -> AsyncIterator[None]:
        yield


def of_two(name: str, context: object) -> Iterator[None]:
    yield


@pytest.mark.parametrize(
    ("function", "is_async"),
    [
        (plain, False),
        (on_loop, True),
        (contextlib.contextmanager(plain), False),
        (contextlib.asynccontextmanager(on_loop), True),
        (Plain, False),
        (OnLoop, True),
        (Methods().method, False),
        (Methods(), True),
        (functools.partial(of_two, "a"), False),
    ],
)
def test_a_context_manager_is_known_to_be_async_or_not(function: Any, is_async: bool) -> None:
    found = declared(function, "@around", 1)
    assert found.is_async is is_async
    manager = found.enter(object())
    assert hasattr(manager, "__aenter__" if is_async else "__enter__")


def coroutine_not() -> Any: ...
async def coroutine(context: object) -> None: ...
def nothing(context: object) -> None: ...
def of_none() -> Iterator[None]:
    yield


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("text", "@around: 'text' is not a function: write it as a generator function with one yield"),
        (nothing, r"@around: nothing \(.*test_around.py:\d+\) is no context manager: write it as a generator function"),
        (coroutine, "is no context manager"),
        (coroutine_not, "is no context manager"),
        (dict, "is no context manager"),
        (of_none, r"of_none \(.*\): takes \(context\)"),
        (of_two, r"of_two \(.*\): takes \(context\)"),
    ],
)
def test_what_is_no_context_manager_is_refused_in_one_line(function: Any, message: str) -> None:
    with pytest.raises(TaskError, match=message) as refused:
        Arounds().add(function)
    assert "\n" not in str(refused.value)


async def life() -> AsyncIterator[int]:
    yield 1


def test_there_is_one_lifespan_and_it_is_async() -> None:
    registry = Registry()
    with pytest.raises(TaskError, match=r"of_none .* is not async: write it as an async generator function"):
        registry.set_lifespan(of_none)
    with pytest.raises(TaskError, match="takes nothing"):
        registry.set_lifespan(on_loop)
    registry.set_lifespan(life)
    with pytest.raises(TaskError, match=r"life .* is a second one. There is one already: @lifespan: life"):
        registry.set_lifespan(life)


def in_process(payload: object) -> None: ...
def in_thread(payload: object) -> None: ...
async def here(payload: object) -> None: ...


@pytest.mark.parametrize(
    ("arounds", "tasks", "lane", "message"),
    [
        ([plain, plain], [in_process, in_thread, here], Lane.PROCESS, None),
        ([on_loop, plain], [in_thread, here], Lane.THREAD, None),
        ([plain, on_loop], [here], Lane.PROCESS, None),
        ([on_loop], [here, in_process], Lane.THREAD, "on_loop .* is async, and task 'in_process' runs in a worker"),
        ([on_loop], [here, in_thread], Lane.PROCESS, "on_loop .* is async, and task 'in_thread' runs in a worker"),
        ([plain, on_loop], [here, in_thread], Lane.THREAD, "on_loop .* comes after one that is not.*declare it first"),
    ],
)
def test_what_cannot_be_around_a_task_is_refused(
    arounds: list[Any], tasks: list[Any], lane: Lane, message: str | None
) -> None:
    registry = Registry()
    for around in arounds:
        registry.arounds.add(around)
    for task in tasks:
        registry.add(task, Options(run_in="process" if task is in_process else None))
    if message is None:
        registry.arounds.check(registry.tasks, lane)
        return
    with pytest.raises(TaskError, match=message) as refused:
        registry.arounds.check(registry.tasks, lane)
    assert "\n" not in str(refused.value)
