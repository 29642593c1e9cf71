"""How a function is called as a task: where it runs, what its payload has to be, whether it takes the context.

A task takes the payload and, if it has a second parameter, the Context. Each fault is a TaskError
of one line that says what to do.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from functools import partial
from typing import Any, get_args, get_type_hints

import msgspec
from headway.core.errors import TaskError
from headway.core.payload_type import PayloadType, payload_type
from headway.core.task import Lane
from headway.core.tasks.context import Context

# The context as an annotation that cannot be evaluated.
CONTEXT_WRITTEN = {"Context", "headway.Context", "Context | None", "headway.Context | None"}
# The first parameter of a method that is not bound to an object.
UNBOUND = {"self", "cls"}
# Characters of a description.
DESCRIPTION_LONGEST = 500
TAKES = "takes (payload) or (payload, context)"
# Names that are not defined stay as they are written, and do not raise.
AS_WRITTEN: dict[str, Any] = {}
if sys.version_info >= (3, 14):
    from annotationlib import Format

    AS_WRITTEN["annotation_format"] = Format.FORWARDREF


class Signature(msgspec.Struct, frozen=True):
    """How a function is called as a task."""

    # None: the setting of config.yaml.
    lane: Lane | None
    # Whether it is a plain decorator around a coroutine function.
    awaits: bool
    takes_context: bool
    # None: the payload may be anything.
    payload_type: PayloadType | None
    # The first line of its docstring.
    description: str


def signature(function: Callable[..., object], run_in: str | None, where: str) -> Signature:
    """Read the signature of ``function``. Raises TaskError, which begins with ``where``, if it cannot be a task."""
    code = code_of(function)
    if inspect.isasyncgenfunction(code) or inspect.isgeneratorfunction(code):
        raise TaskError(f"{where}: a generator cannot be a task: return the whole result")
    parameters = _parameters(function, where)
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    _check(function, parameters, positional, where)
    return Signature(
        _lane(code, run_in, where),
        not inspect.iscoroutinefunction(code) and inspect.iscoroutinefunction(inspect.unwrap(code)),
        len(positional) > 1,
        _payload_type(code, positional[0], where),
        _description(code),
    )


def code_of(function: Callable[..., object]) -> Callable[..., object]:
    """Return the function behind ``function``: that of a partial, an object's ``__call__``."""
    while not inspect.isroutine(function) or isinstance(function, staticmethod):
        if isinstance(function, partial):
            function = function.func
        elif isinstance(function, staticmethod):
            function = function.__func__
        else:
            return function.__call__  # type: ignore[no-any-return,operator]  # an object
    return function


def place(function: Callable[..., object]) -> str:
    """Return the file and the line of a function."""
    code = getattr(inspect.unwrap(code_of(function)), "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code else repr(function)


def _lane(code: Callable[..., object], run_in: str | None, where: str) -> Lane | None:
    """Return the lane that the function ``code`` runs in, None if config.yaml decides."""
    if inspect.iscoroutinefunction(code):
        if run_in is not None:
            raise TaskError(f"{where}: run_in={run_in!r} is for plain functions: a coroutine runs on the loop")
        return Lane.LOOP
    if not inspect.iscoroutinefunction(inspect.unwrap(code)):
        return None if run_in is None else Lane(run_in)
    if run_in == "process":
        raise TaskError(
            f"{where}: run_in='process' is for plain functions: it wraps a coroutine function. Leave run_in out"
        )
    # A plain decorator around a coroutine function. Its coroutine is awaited on the loop.
    return Lane.THREAD


def _parameters(function: Callable[..., object], where: str) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(function, **AS_WRITTEN).parameters.values())
    except Exception as error:  # noqa: BLE001 — its annotations may raise anything
        raise TaskError(f"{where}: its parameters cannot be read: {error}") from None


def _check(
    function: Callable[..., object],
    parameters: list[inspect.Parameter],
    positional: list[inspect.Parameter],
    where: str,
) -> None:
    """Raise TaskError if a task cannot have these parameters."""
    kind, _, method = getattr(function, "__qualname__", "").rpartition(".")
    if positional and positional[0].name in UNBOUND and kind and not kind.endswith("<locals>"):
        # Its class is being made, and it would be called without an object.
        raise TaskError(
            f"{where}: is a method of {kind} without an object. Declare it for one, below the class: "
            f"headway.task({kind.rpartition('.')[2]}().{method})"
        )
    required = [p for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if not positional or len(required) > 2 or any(p.kind is p.KEYWORD_ONLY for p in required):
        raise TaskError(f"{where}: {TAKES}. Bind further parameters with functools.partial")
    if any(_is_context(p) for p in parameters if p is not positional[0] and p not in positional[1:2]):
        raise TaskError(f"{where}: {TAKES}: the context comes second, by position")


def _is_context(parameter: inspect.Parameter) -> bool:
    """Whether a parameter is for the Context by its name or annotation."""
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
        return False
    annotation = parameter.annotation
    if parameter.name == "context" or annotation is Context or Context in get_args(annotation):
        return True
    return isinstance(annotation, str) and annotation in CONTEXT_WRITTEN


def _payload_type(code: Callable[..., object], parameter: inspect.Parameter, where: str) -> PayloadType | None:
    written = parameter.annotation
    if written is parameter.empty:
        return None
    of = f"{where}: {parameter.name}: {inspect.formatannotation(written)}"
    holder = type("Holder", (), {"__annotations__": {"payload": written}})
    names = getattr(inspect.unwrap(code), "__globals__", {})
    try:
        annotation = get_type_hints(holder, globalns=names, include_extras=True)["payload"]
    except Exception as error:  # noqa: BLE001 — as above
        raise TaskError(
            f"{of} cannot be evaluated: {error}. Define or import it in the module itself, also at run time"
        ) from None
    try:
        return payload_type(annotation)
    except TypeError as error:
        raise TaskError(f"{of} cannot be the type of a payload: {error}. typing.Any takes anything") from None


def _description(code: Callable[..., object]) -> str:
    """Return the first line of the docstring of a function, or of the class of an object that is called."""
    text = code.__doc__
    if not text and code.__name__ == "__call__":
        text = type(getattr(code, "__self__", None)).__doc__
    return inspect.cleandoc(text or "").partition("\n")[0][:DESCRIPTION_LONGEST]
