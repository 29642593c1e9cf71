"""Answers made of a value of the engine, which may be known later."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from headway.core.errors import EngineAwayError
from headway.core.interface import Later, Soon
from headway.protocol.http.responses import Answer, Awaited

Value = TypeVar("Value")


def once_known(soon: Soon[Value], then: Callable[[Value], Answer | Awaited]) -> Answer | Awaited:
    """Return the answer that ``then`` makes of a value, now or once it is known."""
    return later(soon, then) if isinstance(soon, Later) else then(soon)


def later(unknown: Later[Value], then: Callable[[Value], Answer | Awaited]) -> Awaited:
    """Return the answer that ``then`` makes of a value once it is known."""
    return Awaited(unknown, lambda: then(unknown.value()))


def unless_away(make: Callable[[], Answer | Awaited], instead: Callable[[], Answer | Awaited]) -> Answer | Awaited:
    """Return the answer of ``make``, now or later, or that of ``instead`` if the engine goes away meanwhile."""
    try:
        answer = make()
    except EngineAwayError:
        return instead()
    if isinstance(answer, Awaited):
        return Awaited(answer.unknown, lambda: unless_away(answer.then, instead))
    return answer
