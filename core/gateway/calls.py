"""The calls of a gateway: those that were asked, and those kept while the engine starts again.

The engine answers in any order. While there is no engine, calls are kept for KEPT_S, within bounds on their number
and bytes, and are sent to the next one in their order. If the engine ended without a word, a call
that changes something has an unknown outcome. All others are asked again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from headway.core.errors import EngineRestartsError, HeadwayError, RestartedError
from headway.core.gateway import wire
from headway.core.gateway.link import EngineLink
from headway.core.gateway.wire import CHANGING, read_value, sent_arguments
from headway.core.interface import Later

log = logging.getLogger(__name__)

# Seconds that a call is kept before the first engine is there. It may read a journal for long.
START_S = 2.0
# Seconds that a call is kept, and how many calls and bytes at most.
KEPT_S = 10.0
KEPT_MOST = 10_000
KEPT_BYTES = 64 * 1024 * 1024


class OpenCall(Later[Any]):
    """The value of a call."""

    __slots__ = ("_calls", "_error", "_is_known", "_value", "kept_since", "message", "name", "number", "wake")

    def __init__(self, calls: OpenCalls, number: int, name: str, message: bytes) -> None:
        self._calls = calls
        self.number = number
        self.name = name
        self.message = message
        # Since when it is kept, or was before it was sent, of time.monotonic. 0.0: it never was.
        self.kept_since = 0.0
        self.wake: Callable[[], object] = int
        self._is_known = False
        self._value: Any = None
        self._error: HeadwayError | None = None

    def when_known(self, wake: Callable[[], object]) -> None:
        """Have ``wake`` called when the engine has answered."""
        self.wake = wake
        if self._is_known:
            asyncio.get_running_loop().call_soon(wake)

    def value(self) -> Any:
        """Return the value. Raises the HeadwayError that the engine raised."""
        if self._error is not None:
            raise self._error
        return self._value

    def hurry(self) -> None:
        """Have the engine hurry."""
        self._calls.send(wire.HURRY, self.number)

    def cancel(self) -> None:
        """Do not wake. A call that changes something is made all the same."""
        self.wake = int
        if self.name not in CHANGING:
            self._calls.give_up(self)

    def known(self, value: Any) -> None:
        """Take the value."""
        self._value, self._is_known = value, True
        self.wake()

    def failed(self, error: HeadwayError) -> None:
        """Take the error."""
        self._error, self._is_known = error, True
        self.wake()


class OpenCalls:
    """All calls of a gateway that are not answered."""

    def __init__(self) -> None:
        self._link: EngineLink | None = None
        # Whether a deploy has begun. All that was sent is answered before it.
        self.is_paused = False
        # By number: those that were sent, and those that are kept, the oldest first.
        self._sent: dict[int, OpenCall] = {}
        self._kept: dict[int, OpenCall] = {}
        self._kept_bytes = 0
        self._kept_s = START_S
        # Whether there may be an engine to come that answers those that are kept.
        self._keeps = True
        self._number = 0

    def __len__(self) -> int:
        return len(self._sent) + len(self._kept)

    def ask(self, name: str, given: Sequence[Any]) -> OpenCall:
        """Make a call. Raises EngineRestartsError if it can be neither sent nor kept."""
        self._number += 1
        asked = OpenCall(self, self._number, name, sent_arguments(name)(given))
        if self._link is not None:
            self._sent[asked.number] = asked
            self._link.send(wire.CALL, asked.number, asked.message)
        else:
            self._hold(asked, time.monotonic())
        return asked

    def send(self, kind: int, number: int, message: bytes = b"") -> None:
        """Send another frame, if there is an engine."""
        if self._link is not None:
            self._link.send(kind, number, message)

    def give_up(self, asked: OpenCall) -> None:
        """Wait no more for a call that changes nothing."""
        if self._sent.pop(asked.number, None) is not None:
            self.send(wire.CANCEL, asked.number)
        elif self._kept.pop(asked.number, None) is not None:
            self._kept_bytes -= len(asked.message)

    def open(self, link: EngineLink) -> None:
        """Send what was kept, and all calls from now on."""
        self._link, self.is_paused, self._kept_s = link, False, KEPT_S
        kept, self._kept, self._kept_bytes = self._kept, {}, 0
        for asked in kept.values():
            self._sent[asked.number] = asked
            link.send(wire.CALL, asked.number, asked.message)

    def pause(self) -> None:
        """Keep the calls from now on: a deploy begins. Those that were sent are answered before it."""
        self._link, self.is_paused = None, True

    def lost(self) -> None:
        """The engine has ended. Ask the next one again, unless the outcome is unknown."""
        self._link = None
        sent, self._sent = self._sent, {}
        before, self._kept, self._kept_bytes = self._kept, {}, 0
        now = time.monotonic()
        for asked in [*sent.values(), *before.values()]:
            try:
                if asked.number in sent and asked.name in CHANGING:
                    raise RestartedError
                # One that was sent as an engine ended without a word may be the reason, again and again.
                since = 0.0 if self.is_paused and asked.number in sent else asked.kept_since
                self._hold(asked, since or now)
            except EngineRestartsError as error:
                asked.failed(error)

    def tick(self, now: float) -> None:
        """Give up the calls that were kept for too long."""
        while self._kept:
            asked = next(iter(self._kept.values()))
            if now - asked.kept_since < self._kept_s:
                break
            del self._kept[asked.number]
            self._kept_bytes -= len(asked.message)
            asked.failed(EngineRestartsError())

    def hurry(self) -> None:
        """Have the engine answer the calls that wait for jobs: their clients have to go."""
        for asked in self._sent.values():
            if asked.name in wire.WAITING:
                asked.hurry()

    def keep_none(self) -> None:
        """Give up the calls that are kept, and keep none from now on: this gateway ends."""
        self._keeps = False
        kept, self._kept, self._kept_bytes = self._kept, {}, 0
        for asked in kept.values():
            asked.failed(EngineRestartsError())

    def answered(self, number: int, message: bytes) -> None:
        """Take the value of a call."""
        asked = self._sent.pop(number, None)
        if asked is None:
            return
        try:
            value = read_value(asked.name)(message)
        except Exception:  # noqa: BLE001 — it is logged
            self._cannot_read(asked)
        else:
            asked.known(value)

    def refused(self, number: int, message: bytes) -> None:
        """Take the error of a call."""
        asked = self._sent.pop(number, None)
        if asked is None:
            return
        try:
            error = wire.decode_fault(message).error()
        except Exception:  # noqa: BLE001 — it is logged
            self._cannot_read(asked)
        else:
            asked.failed(error)

    def _cannot_read(self, asked: OpenCall) -> None:
        """Answer a call whose answer is of an engine of another version: this gateway is replaced in a moment."""
        log.exception("the answer to a call of %s cannot be read", asked.name)
        asked.failed(HeadwayError("internal error: see the log of the server"))

    def _hold(self, asked: OpenCall, since: float) -> None:
        if not self._keeps or len(self._kept) >= KEPT_MOST or self._kept_bytes + len(asked.message) > KEPT_BYTES:
            raise EngineRestartsError
        asked.kept_since = since
        self._kept[asked.number] = asked
        self._kept_bytes += len(asked.message)
