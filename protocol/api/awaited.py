"""Answers made of a value of the engine, which may be known later."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from headway.core.errors import EngineAwayError
from headway.core.interface import Later, Soon
from headway.protocol.http.responses import Answer, Held

Value = TypeVar("Value")


def once_known(soon: Soon[Value], then: Callable[[Value], Answer | Held]) -> Answer | Held:
    """Return the answer that ``then`` makes of a value, now or once it is known."""
    return later(soon, then) if isinstance(soon, Later) else then(soon)


def later(unknown: Later[Value], then: Callable[[Value], Answer | Held]) -> Held:
    """Return the answer that ``then`` makes of a value once it is known."""
    return Held(unknown, lambda: then(unknown.value()))


def unless_away(make: Callable[[], Answer | Held], instead: Callable[[], Answer | Held]) -> Answer | Held:
    """Return the answer of ``make``, now or later, or that of ``instead`` if the engine goes away meanwhile."""
    try:
        answer = make()
    except EngineAwayError:
        return instead()
    if isinstance(answer, Held):
        return Held(answer.hold, lambda: unless_away(answer.then, instead))
    return answer
