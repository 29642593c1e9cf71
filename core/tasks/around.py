"""Context managers that a user declares: around each attempt, and around the life of a process.

``@around`` takes the Context of an attempt and runs where the attempt runs: on the loop, in a
thread or in a worker process. Several nest in the order of their declaration, the first outermost.
An async one needs an event loop. Around a function in a thread it runs on the loop, so it is
outside of those that run in the thread. In a worker process there is no loop for it.

``@lifespan`` is entered once in each process. ``lifespan`` has its life.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, AsyncExitStack, ExitStack
from typing import Any

import msgspec
from headway.core.errors import TaskError
from headway.core.task import Lane, Task
from headway.core.tasks.context import Context
from headway.core.tasks.signature import code_of, place

HOW = "write it as a generator function with one yield, or decorate it with contextlib"

Manager = AbstractContextManager[Any] | AbstractAsyncContextManager[Any]


class Around(msgspec.Struct, frozen=True):
    """A declared context manager. ``where`` names it and its place in the code."""

    enter: Callable[..., Manager]
    is_async: bool
    where: str


class Arounds:
    """Those around each attempt, in the order of their declaration."""

    __slots__ = ("asynchronous", "declared", "plain")

    def __init__(self) -> None:
        self.declared: list[Around] = []
        # Those that are async, and those that are not.
        self.asynchronous: list[Around] = []
        self.plain: list[Around] = []

    def __bool__(self) -> bool:
        return bool(self.declared)

    def add(self, function: object) -> None:
        """Declare one. Raises TaskError if it is no context manager that takes the context."""
        found = declared(function, "@around", 1)
        self.declared.append(found)
        (self.asynchronous if found.is_async else self.plain).append(found)

    def check(self, tasks: Iterable[Task], default_lane: Lane) -> None:
        """Raise TaskError if one of them cannot be around all attempts."""
        if not self.asynchronous:
            return
        late = [found for found in self.asynchronous if self.plain and self._is_after_a_plain_one(found)]
        for task in tasks:
            lane = task.lane or default_lane
            if lane is Lane.PROCESS:
                raise TaskError(
                    f"{self.asynchronous[0].where} is async, and task {task.name!r} runs in a worker process, which "
                    "has no event loop for it. Write it as a plain generator function"
                )
            if lane is Lane.THREAD and late:
                raise TaskError(
                    f"{late[0].where} is async and comes after one that is not. Around task {task.name!r}, in a "
                    "thread, it is the outer one: declare it first"
                )

    def _is_after_a_plain_one(self, found: Around) -> bool:
        return self.declared.index(self.plain[0]) < self.declared.index(found)


def enter(stack: ExitStack, arounds: Sequence[Around], context: Context) -> None:
    """Enter those that are not async, in a thread or in a worker process."""
    for around in arounds:
        manager: Any = around.enter(context)
        stack.enter_context(manager)


async def enter_on_loop(stack: AsyncExitStack, arounds: Sequence[Around], context: Context) -> None:
    """Enter any of them on the loop."""
    for around in arounds:
        manager: Any = around.enter(context)
        if around.is_async:
            await stack.enter_async_context(manager)
        else:
            stack.enter_context(manager)


def declared(function: object, decorator: str, arguments: int) -> Around:
    """Return ``function`` as a context manager that takes so many arguments. Raises TaskError."""
    if not callable(function):
        raise TaskError(f"{decorator}: {function!r} is not a function: {HOW}")
    name = getattr(function, "__qualname__", type(function).__qualname__).rpartition("<locals>.")[2]
    where = f"{decorator}: {name} ({place(function)})"
    code = code_of(function)
    enter: Callable[..., Manager] = function
    if inspect.isgeneratorfunction(code):
        is_async, enter = False, contextlib.contextmanager(function)
    elif inspect.isasyncgenfunction(code):
        is_async, enter = True, contextlib.asynccontextmanager(function)
    else:
        kind = _kind(function, code)
        if kind is None:
            raise TaskError(f"{where} is no context manager: {HOW}")
        is_async = kind
    try:
        inspect.signature(function).bind(*[None] * arguments)
    except (TypeError, ValueError):
        takes = "takes (context)" if arguments else "takes nothing"
        raise TaskError(f"{where}: {takes}") from None
    return Around(enter, is_async, where)


def _kind(function: Any, code: Callable[..., object]) -> bool | None:
    """Return whether calls of ``function`` make async context managers, None if they make none."""
    inner = inspect.unwrap(code)
    if inspect.isgeneratorfunction(inner):
        return False
    if inspect.isasyncgenfunction(inner):
        return True
    if inspect.isclass(function):
        if hasattr(function, "__enter__"):
            return False
        if hasattr(function, "__aenter__"):
            return True
    return None
