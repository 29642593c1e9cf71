"""When to poll, and for what: a policy is asked after each answer about an unfinished job.

There are three ways to know when: at an interval, when told, or by an answer that waits until there
is something to tell (``Prefer: wait``, RFC 7240). And there are two things to ask for: each job, or
the batch of all jobs of a client.
"""

from __future__ import annotations

import re
from typing import Protocol

from headway.sim.answers import Answer
from headway.sim.settings import SettingsError, seconds

# Seconds to wait after an answer that does not say when to come back, and the least after one that
# does.
UNTOLD_S = 1.0
LEAST_S = 0.01
# Seconds that an answer may wait: the most that a server allows by default (http.wait_most).
WAIT_S = 30


class PolicyError(Exception):
    """The server does not do something that the policy needs. The text is one line for the user."""


class Policy(Protocol):
    """When to ask again. Times in seconds."""

    # As given on the command line.
    name: str
    # Header lines of each poll, each with its CRLF.
    fields: bytes
    # How long the answer to a poll may wait because of them.
    held_s: float
    # All jobs of a client are one batch, which is submitted and asked for as a whole.
    batched: bool

    def first_s(self, answer: Answer) -> float:
        """Return the time from ``answer``, which says that the job was taken, to the first poll."""

    def delay_s(self, answer: Answer, took_s: float) -> float:
        """Return the time to the next poll from ``answer``, which took ``took_s`` and shows no end.

        Raises PolicyError.
        """


class Every:
    """A fixed interval, counted from the answer."""

    fields = b""
    held_s = 0.0
    batched = False

    def __init__(self, name: str, interval_s: float) -> None:
        self.name = name
        self._interval_s = interval_s

    def first_s(self, _: Answer) -> float:
        """Return the interval."""
        return self._interval_s

    def delay_s(self, _: Answer, __: float) -> float:
        """Return the interval."""
        return self._interval_s


class WhenTold:
    """Obeys Retry-After-Ms if the client knows ``milliseconds``, else Retry-After."""

    fields = b""
    held_s = 0.0

    def __init__(self, name: str, milliseconds: bool = True, batched: bool = False) -> None:
        self.name = name
        self.batched = batched
        self._milliseconds = milliseconds

    def first_s(self, answer: Answer) -> float:
        """Return the time that the server tells."""
        told = answer.told_s(self._milliseconds)
        return UNTOLD_S if told is None else max(told, LEAST_S)

    def delay_s(self, answer: Answer, _: float) -> float:
        """Return the time that the server tells."""
        return self.first_s(answer)


class Wait:
    """Waits for the job's end. Asks again at once if that takes longer than an answer may wait."""

    fields = b"Prefer: wait=%d\r\n" % WAIT_S
    held_s = float(WAIT_S)

    def __init__(self, name: str, batched: bool = False) -> None:
        self.name = name
        self.batched = batched
        # The server has shown that it knows the preference.
        self._applied = False
        self._told = WhenTold(name)

    def first_s(self, _: Answer) -> float:
        """Ask at once."""
        return 0.0

    def delay_s(self, answer: Answer, took_s: float) -> float:
        """Ask at once after a full wait. Obey an earlier answer, as of a draining server."""
        applied = re.search(rb"\bwait=(\d+)", answer.field(b"preference-applied") or b"")
        if applied is None and not self._applied:
            raise PolicyError("the server does not know Prefer: wait (no Preference-Applied): poll when-told instead")
        self._applied = True
        return 0.0 if applied and took_s >= int(applied[1]) else self._told.delay_s(answer, took_s)


def policy(text: str) -> Policy:
    """Return the policy that ``text`` names. Raises SettingsError."""
    named: dict[str, Policy] = {
        known.name: known
        for known in (
            WhenTold("when-told"),
            WhenTold("retry-after", milliseconds=False),
            Wait("wait"),
            WhenTold("batch-told", batched=True),
            Wait("batch", batched=True),
        )
    }
    if text in named:
        return named[text]
    if not re.match(r"\d", text):
        expected = f"{', '.join(named)}, or an interval such as 1s or 250ms"
        raise SettingsError(f"poll: {text!r} is not allowed: expected {expected}")
    interval = seconds("poll", text)
    if not LEAST_S <= interval <= 3600:
        raise SettingsError(f"poll: {text!r} is not allowed: an interval is {LEAST_S * 1000:g}ms to 1h")
    return Every(text, interval)
