"""Tasks: the functions that jobs name, and their options.

``@task`` registers a function under a name when its module is imported. A coroutine function runs on the event loop, a
plain function in a thread or in a process. A function takes the payload and, if it has a second parameter, a Context.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Iterable
from enum import Enum
from typing import Annotated, Any, Literal, TypeVar, overload

import msgspec
from headway.core.errors import ConfigError, TaskError
from headway.core.fields import faults
from msgspec import Meta

Function = TypeVar("Function", bound=Callable[..., object])

DEADLINE_LONGEST_S = 60 * 86_400
TASKS_MOST = 1 << 16
RETRIES_MOST = 1000


class Lane(Enum):
    """Where a task runs."""

    LOOP = "loop"
    THREAD = "thread"
    PROCESS = "process"


class Retry(Exception):
    """Raised by a task: this attempt did not work out, make another in ``delay`` seconds.

    It uses one of the job's retries; None leaves the delay to the backoff.
    """

    def __init__(self, delay: float | None = None) -> None:
        super().__init__("the task asked for another attempt")
        self.delay = delay


class Task(msgspec.Struct, frozen=True, eq=False):
    """A registered function. Times in seconds; None: as config.yaml says."""

    name: str
    function: Callable[..., Any]
    # None: as config.yaml says.
    lane: Lane | None
    takes_context: bool
    # Its place in the registry, which is what a row keeps.
    index: int
    # Of an attempt.
    timeout_s: float | None = None
    # Attempts after the first, after errors that are ``retry_on``.
    retries: int | None = None
    retry_on: tuple[type[BaseException], ...] = (Exception,)
    # From the submission to the end of the last attempt.
    deadline_s: float | None = None
    # How many of its jobs may run at once.
    max_concurrent: int | None = None


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What ``@task`` may say."""

    name: Annotated[str, Meta(min_length=1, max_length=200)] | None = None
    timeout: Annotated[float, Meta(gt=0, le=86_400)] | None = None
    deadline: Annotated[float, Meta(gt=0, le=DEADLINE_LONGEST_S)] | None = None
    retries: Annotated[int, Meta(ge=0, le=RETRIES_MOST)] | None = None
    retry_on: Any = Exception
    run_in: Literal["thread", "process"] | None = None
    max_concurrent: Annotated[int, Meta(ge=1, le=100_000)] | None = None


class Registry:
    """Tasks by name, and by the index that rows keep."""

    def __init__(self) -> None:
        self.by_name: dict[str, Task] = {}
        self.tasks: list[Task] = []

    def __repr__(self) -> str:
        return f"<Registry {', '.join(self.by_name) or 'empty'}>"

    def add(self, function: object, options: Options) -> None:
        """Register ``function``; raises TaskError, which names it, where it cannot be a task."""
        if not callable(function) or inspect.isclass(function):
            raise TaskError(f"@task: {function!r} is not a function")
        name = getattr(function, "__name__", "") if options.name is None else options.name
        where = f"task {name!r} ({_place(function)})"
        for field, fault in faults(Options, msgspec.structs.asdict(options) | {"name": name}):
            raise TaskError(f"{where}: {field}={fault}")
        if name in self.by_name:
            raise TaskError(f"{where}: the name is taken by {_place(self.by_name[name].function)}")
        if len(self.tasks) == TASKS_MOST:
            raise TaskError(f"{where}: there are {TASKS_MOST} tasks already, which is the most")
        task = Task(
            name,
            function,
            _lane(function, options.run_in, where),
            _takes_context(function, where),
            len(self.tasks),
            options.timeout,
            options.retries,
            _exceptions(options.retry_on, where),
            options.deadline,
            options.max_concurrent,
        )
        self.by_name[name] = task
        self.tasks.append(task)


def _lane(function: Callable[..., object], run_in: str | None, where: str) -> Lane | None:
    """Where ``function`` runs; None where config.yaml decides."""
    called = function if inspect.isroutine(function) else getattr(function, "__call__", function)  # noqa: B004
    if not inspect.iscoroutinefunction(called):
        return None if run_in is None else Lane(run_in)
    if run_in is not None:
        raise TaskError(f"{where}: run_in={run_in!r} is for plain functions; a coroutine runs on the loop")
    return Lane.LOOP


def _exceptions(retry_on: Any, where: str) -> tuple[type[BaseException], ...]:
    kinds = retry_on if isinstance(retry_on, tuple) else (retry_on,)
    for kind in kinds:
        if not (inspect.isclass(kind) and issubclass(kind, BaseException)):
            raise TaskError(f"{where}: retry_on={kind!r} is not allowed: expected exception classes")
    return kinds


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
def task(function: Function, /) -> Function: ...
@overload
def task(
    *,
    name: str | None = None,
    timeout: float | None = None,
    deadline: float | None = None,
    retries: int | None = None,
    retry_on: type[BaseException] | tuple[type[BaseException], ...] = Exception,
    run_in: Literal["thread", "process"] | None = None,
    max_concurrent: int | None = None,
) -> Callable[[Function], Function]: ...
def task(function: Function | None = None, /, **options: Any) -> Function | Callable[[Function], Function]:
    """Declare a function to be a task; the function itself is left as it is.

    ``name``: by which jobs name it; its own name if left out. ``timeout``: seconds an attempt may take. ``deadline``:
    seconds from the submission after which the job fails, whatever it does. ``retries``: attempts after the first, made
    after errors of the classes ``retry_on``. ``run_in``: a plain function's place, ``"thread"`` or ``"process"``.
    ``max_concurrent``: how many of its jobs may run at once. A submission may ask for other times and retries.

    Raises TaskError where the function cannot be a task or the name is taken.
    """

    def register(function: Function) -> Function:
        REGISTRY.add(function, Options(**options))
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
