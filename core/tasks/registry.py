"""Tasks: the functions that jobs name, and their options.

``@task`` registers a function under a name when its module is imported. A coroutine function runs
on the event loop, a plain function in a thread or in a process. ``signature`` reads how it is
called.
"""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Annotated, Any, Literal, TypeVar, overload

import msgspec
from headway.core.errors import ConfigError, TaskError
from headway.core.faults import faults
from headway.core.task import DEADLINE_LONGEST_S, KEEP_LONGEST_S, OWN_PREFIX, RETRIES_MOST, Task
from headway.core.tasks.around import Around, Arounds, declared
from headway.core.tasks.importing import EndedError, importing
from headway.core.tasks.importing import __file__ as importing_file
from headway.core.tasks.signature import place, signature
from msgspec import Meta

Function = TypeVar("Function", bound=Callable[..., object])

# An index has two bytes, and some are those of the server's own tasks.
TASKS_MOST = (1 << 16) - 16
LAMBDA = "<lambda>"
# A client would take these out of a path, even if they are percent-encoded.
DOTS = (".", "..")
NAME_RULE = "it stands in URLs and logs. Use printable characters, no space at either end, and not . or .. alone"


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """The options of ``@task``."""

    name: Annotated[str, Meta(min_length=1, max_length=200)] | None = None
    timeout: Annotated[float, Meta(gt=0, le=86_400)] | None = None
    deadline: Annotated[float, Meta(gt=0, le=DEADLINE_LONGEST_S)] | None = None
    retries: Annotated[int, Meta(ge=0, le=RETRIES_MOST)] | None = None
    retry_on: Any = Exception
    run_in: Literal["thread", "process"] | None = None
    max_concurrent: Annotated[int, Meta(ge=1, le=100_000)] | None = None
    body_bytes: Annotated[int, Meta(ge=0, le=1 << 30)] | None = None
    keep: Annotated[float, Meta(gt=0, le=KEEP_LONGEST_S)] | None = None


class Registry:
    """Tasks by name, and by the index that rows keep."""

    def __init__(self) -> None:
        self.by_name: dict[str, Task] = {}
        self.tasks: list[Task] = []
        # The context managers around each attempt, and the one around the life of the process.
        self.arounds = Arounds()
        self.lifespan: Around | None = None

    def __repr__(self) -> str:
        return f"<Registry {', '.join(self.by_name) or 'empty'}>"

    def add(self, function: object, options: Options) -> None:
        """Register ``function``. Raises TaskError, which names it, if it cannot be a task."""
        if isinstance(function, staticmethod):
            function = function.__func__
        if isinstance(function, classmethod):
            raise TaskError(f"@task: {function!r} has no class yet. Declare it below the class: task(Class.method)")
        if not callable(function) or inspect.isclass(function):
            raise TaskError(f"@task: {function!r} is not a function. A class can have one: task(Class().method)")
        name = getattr(function, "__name__", None) if options.name is None else options.name
        if name is None or (name == LAMBDA and options.name is None):
            raise TaskError(f"@task: {function!r} has no name of its own. Give it one: task(name='…')")
        where = f"task {name!r} ({place(function)})"
        for field, fault in faults(Options, msgspec.structs.asdict(options) | {"name": name}):
            raise TaskError(f"{where}: {field}={fault}")
        if not name.isprintable() or name != name.strip() or name in DOTS:
            raise TaskError(f"{where}: name={name!r} is not allowed: {NAME_RULE}")
        if name.startswith(OWN_PREFIX):
            raise TaskError(f"{where}: names that begin with {OWN_PREFIX!r} are those of the server's own tasks")
        if name in self.by_name:
            raise TaskError(f"{where}: the name is taken by {place(self.by_name[name].function)}")
        if len(self.tasks) == TASKS_MOST:
            raise TaskError(f"{where}: there are {TASKS_MOST} tasks already, the most that is allowed")
        called = signature(function, options.run_in, where)
        task = Task(
            name,
            function,
            lane=called.lane,
            takes_context=called.takes_context,
            index=len(self.tasks),
            timeout_s=options.timeout,
            retries=options.retries,
            retry_on=_exceptions(options.retry_on, where),
            deadline_s=options.deadline,
            keep_s=options.keep,
            max_concurrent=options.max_concurrent,
            awaits=called.awaits,
            payload_type=called.payload_type,
            body_bytes=options.body_bytes,
            description=called.description,
        )
        self.by_name[name] = task
        self.tasks.append(task)

    def set_lifespan(self, function: object) -> None:
        """Declare the lifespan. Raises TaskError if it is none, or if there is one already."""
        found = declared(function, "@lifespan", 0)
        if not found.is_async:
            raise TaskError(f"{found.where} is not async: write it as an async generator function with one yield")
        if self.lifespan is not None:
            raise TaskError(f"{found.where} is a second one. There is one already: {self.lifespan.where}")
        self.lifespan = found


def _exceptions(retry_on: Any, where: str) -> tuple[type[BaseException], ...]:
    kinds = retry_on if isinstance(retry_on, tuple) else (retry_on,)
    for kind in kinds:
        if not (inspect.isclass(kind) and issubclass(kind, BaseException)):
            raise TaskError(f"{where}: retry_on={kind!r} is not allowed: expected exception classes")
    return kinds


# The registry of @task, and of the server.
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
    body_bytes: int | None = None,
    keep: float | None = None,
) -> Callable[[Function], Function]: ...
def task(function: Function | None = None, /, **options: Any) -> Function | Callable[[Function], Function]:
    """Declare a function to be a task, and return the function unchanged.

    ``name``: the name that jobs use, by default that of the function.
    ``timeout``: seconds that an attempt may take.
    ``deadline``: seconds from the submission after which the job fails, whatever it does.
    ``retries``: attempts after the first, made after errors of the classes ``retry_on``.
    ``run_in``: the place of a plain function, ``"thread"`` or ``"process"``.
    ``max_concurrent``: how many of its jobs may run at once.
    ``body_bytes``: bytes of content that ``POST /tasks/{name}/jobs`` takes for it.
    ``keep``: seconds that a finished job is kept, among the last ``retention.jobs``.
    A submission may ask for other times and retries.

    Raises TaskError if the function cannot be a task or the name is taken.
    """

    def register(function: Function) -> Function:
        REGISTRY.add(function, Options(**options))
        return function

    return register if function is None else register(function)


def around(function: Function) -> Function:
    """Declare a context manager to be around each attempt, where that runs. Return it unchanged.

    It is a generator function with one ``yield``, plain or async, or a function that contextlib has
    decorated. It takes the Context. Several nest in the order of their declaration. If it raises,
    the attempt fails. Raises TaskError if it is no context manager.
    """
    REGISTRY.arounds.add(function)
    return function


def lifespan(function: Function) -> Function:
    """Declare an async context manager around the life of the server and of each worker process.

    It takes nothing. Its value is ``context.state``. Raises TaskError if it is none, or a second.
    """
    REGISTRY.set_lifespan(function)
    return function


def load(modules: Iterable[str]) -> None:
    """Import the task modules. Raises ConfigError with the last line of the error."""
    for module in modules:
        if module.endswith(".py") or os.sep in module:
            name = module.removesuffix(".py").strip("./").replace(os.sep, ".")
            raise ConfigError(f"tasks: {module!r} is a file: name its module, {name!r}")
        with importing() as interrupted:
            try:
                importlib.import_module(module)
                continue
            except ConfigError:
                raise
            except BaseException as caught:
                if interrupted():
                    raise
                error = caught
        detail = str(error) if isinstance(error, EndedError) else f"{type(error).__name__}: {error}".strip()
        where = _raised_in(error)
        raise ConfigError(f"tasks: {module!r} cannot be imported: {detail.splitlines()[-1]}{where}") from error


def _raised_in(error: BaseException) -> str:
    """Return the place where a module of the user's raised ``error``.

    `` (file:line)``, or nothing for a module that was not found.
    """
    frames = inspect.getinnerframes(error.__traceback__) if error.__traceback__ else []
    ours = {__file__, importing_file}
    theirs = [frame for frame in frames if "importlib" not in frame.filename and frame.filename not in ours]
    return f" ({theirs[-1].filename}:{theirs[-1].lineno})" if theirs and "<" not in theirs[-1].filename else ""


def add_working_directory() -> None:
    """Let task modules in the current directory be imported, as ``python -m`` does.

    By its name, here and where Python has it as "", so that a task that enters another directory
    changes nothing.
    """
    with suppress(OSError):
        here = os.getcwd()
        sys.path[:] = dict.fromkeys([here, *(os.path.join(here, entry) for entry in sys.path if entry)])
