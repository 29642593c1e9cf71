"""When to poll: a policy is asked after each answer that says the job is not over.

A policy may also send header lines of its own with each poll. That is the place for ``wait`` (``Prefer: wait=n``, then
a delay of 0); ``batch`` is one errand for all jobs of a client, so it will also say what an errand submits.
"""

from __future__ import annotations

import re
from typing import Protocol

from headway.sim.answers import Answer
from headway.sim.settings import SettingsError, seconds

# What an answer means that does not say when to come back, and the least that is taken from one that does.
UNTOLD_S = 1.0
LEAST_S = 0.01


class Policy(Protocol):
    """When to ask again."""

    # As given on the command line.
    name: str
    # Header lines that each poll bears, each with its CRLF.
    fields: bytes

    def delay_s(self, answer: Answer) -> float:
        """Return seconds from ``answer``, which says that the job is not over, to the next poll."""


class Every:
    """A fixed interval, counted from the answer."""

    fields = b""

    def __init__(self, name: str, interval_s: float) -> None:
        self.name = name
        self._interval_s = interval_s

    def delay_s(self, _: Answer) -> float:
        """Return the interval."""
        return self._interval_s


class WhenTold:
    """Obeys Retry-After-Ms, else Retry-After."""

    name = "when-told"
    fields = b""

    def delay_s(self, answer: Answer) -> float:
        """Return what the server says."""
        told = answer.told_s(milliseconds=True)
        return UNTOLD_S if told is None else max(told, LEAST_S)


def policy(text: str) -> Policy:
    """Return the policy that ``text`` names; raises SettingsError."""
    if text == WhenTold.name:
        return WhenTold()
    if not re.match(r"\d", text):
        raise SettingsError(f"poll: {text!r} is not allowed: expected when-told, or an interval such as 1s or 250ms")
    interval = seconds("poll", text)
    if not LEAST_S <= interval <= 3600:
        raise SettingsError(f"poll: {text!r} is not allowed: an interval is {LEAST_S * 1000:g}ms to 1h")
    return Every(text, interval)
