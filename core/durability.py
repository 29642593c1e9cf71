"""What a 202 promises: how much an accepted job survives.

Three promises, each of which keeps those before it. Every engine gives one of them, and a
submission may demand one.
"""

from __future__ import annotations

from typing import Literal

# memory: lost with the process. process: survives a killed process, not a loss of power. disk:
# synced before the 202, so it survives both.
Durability = Literal["memory", "process", "disk"]

# The promises, ascending.
PROMISES: tuple[Durability, ...] = ("memory", "process", "disk")
# Each in words, for people.
SURVIVES: dict[Durability, str] = {
    "memory": "jobs are lost with this process",
    "process": "jobs survive a killed process, not a loss of power",
    "disk": "jobs survive a killed process and a loss of power",
}


def keeps(promised: Durability, demanded: Durability) -> bool:
    """Whether the promise ``promised`` is as much as ``demanded``, or more."""
    return PROMISES.index(promised) >= PROMISES.index(demanded)
