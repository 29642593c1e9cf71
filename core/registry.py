"""Tasks: the functions that jobs name, and their options.

``@task`` registers a function under a name when its module is imported. A coroutine function runs on the event
loop, a plain function in a thread. A function takes the payload and, if it has a second parameter, a Context.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any, TypeVar, overload

import msgspec
from headway.core.errors import ConfigError, TaskError

Function = TypeVar("Function", bound=Callable[..., object])

NAME_LONGEST = 200
TASKS_MOST = 1 << 16
RETRIES_MOST = 1000


class Lane(Enum):
    """Where a task runs."""

    LOOP = "loop"
    THREAD = "thread"


class Task(msgspec.Struct, frozen=True, eq=False):
    """A registered function. Times in seconds; None: as config.yaml says."""

    name: str
    function: Callable[..., Any]
    lane: Lane
    takes_context: bool
    timeout_s: float | None
    retries: int | None
    # Its place in the registry, which is what a row keeps.
    index: int


class Registry:
    """Tasks by name, and by the index that rows keep."""

    def __init__(self) -> None:
        self.by_name: dict[str, Task] = {}
        self.tasks: list[Task] = []

    def __repr__(self) -> str:
        return f"<Registry {', '.join(self.by_name) or 'empty'}>"

    def add(self, function: object, name: str | None, timeout: float | None, retries: int | None) -> None:
        """Register ``function``; raises TaskError, which names it, where it cannot be a task."""
        if not callable(function) or inspect.isclass(function):
            raise TaskError(f"@task: {function!r} is not a function")
        name = getattr(function, "__name__", "") if name is None else name
        where = f"task {name!r} ({_place(function)})"
        if not name or len(name) > NAME_LONGEST:
            raise TaskError(f"{where}: a name has 1 to {NAME_LONGEST} characters")
        if name in self.by_name:
            raise TaskError(f"{where}: the name is taken by {_place(self.by_name[name].function)}")
        if timeout is not None and not (isinstance(timeout, int | float) and timeout > 0):
            raise TaskError(f"{where}: timeout={timeout!r} is not allowed: expected seconds > 0 or None")
        if retries is not None and not (isinstance(retries, int) and 0 <= retries <= RETRIES_MOST):
            raise TaskError(f"{where}: retries={retries!r} is not allowed: expected 0 to {RETRIES_MOST} or None")
        if len(self.tasks) == TASKS_MOST:
            raise TaskError(f"{where}: there are {TASKS_MOST} tasks already, which is the most")
        task = Task(name, function, _lane(function), _takes_context(function, where), timeout, retries, len(self.tasks))
        self.by_name[name] = task
        self.tasks.append(task)


def _lane(function: Callable[..., object]) -> Lane:
    called = function if inspect.isroutine(function) else getattr(function, "__call__", function)  # noqa: B004
    return Lane.LOOP if inspect.iscoroutinefunction(called) else Lane.THREAD


def _takes_context(function: Callable[..., object], where: str) -> bool:
    if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
        raise TaskError(f"{where}: a generator cannot be a task; return the whole result")
    parameters = inspect.signature(function).parameters.values()
    required = [p for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if not positional or len(required) > 2 or any(p.kind is p.KEYWORD_ONLY for p in required):
        raise TaskError(f"{where}: takes (payload) or (payload, context)")
    return len(required) == 2


def _place(function: Callable[..., object]) -> str:
    code = getattr(inspect.unwrap(function), "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code else repr(function)


# What @task registers in, and what the server serves.
REGISTRY = Registry()


@overload
def task(function: Function) -> Function: ...
@overload
def task(
    *, name: str | None = None, timeout: float | None = None, retries: int | None = None
) -> Callable[[Function], Function]: ...
def task(
    function: Function | None = None,
    *,
    name: str | None = None,
    timeout: float | None = None,
    retries: int | None = None,
) -> Function | Callable[[Function], Function]:
    """Declare a function to be a task, under its own name or ``name``; the function itself is left as it is.

    ``timeout`` is seconds an attempt may take, ``retries`` attempts after the first that fails; a submission may
    ask for others. Raises TaskError where the function cannot be a task or the name is taken.
    """

    def register(function: Function) -> Function:
        REGISTRY.add(function, name, timeout, retries)
        return function

    return register if function is None else register(function)


def load(modules: Iterable[str]) -> None:
    """Import the task modules; raises ConfigError with the last line of what went wrong."""
    for module in modules:
        try:
            importlib.import_module(module)
        except ConfigError:
            raise
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            detail = f"{type(error).__name__}: {error}".strip().splitlines()[-1]
            where = _raised_in(error)
            raise ConfigError(f"tasks: {module!r} cannot be imported: {detail}{where}") from error


def _raised_in(error: BaseException) -> str:
    """Where a module of the user's raised ``error``: `` (file:line)``, or nothing for a module not found."""
    frames = inspect.getinnerframes(error.__traceback__) if error.__traceback__ else []
    theirs = [frame for frame in frames if "importlib" not in frame.filename and frame.filename != __file__]
    return f" ({theirs[-1].filename}:{theirs[-1].lineno})" if theirs and "<" not in theirs[-1].filename else ""


def add_working_directory() -> None:
    """Let task modules in the current directory be imported, as ``python -m`` does."""
    if "" not in sys.path:
        sys.path.insert(0, "")
