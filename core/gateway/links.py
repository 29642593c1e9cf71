"""The engine's end: carries out the calls of all gateways, and tells them how things stand."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from math import inf

from headway.core.counted import Counted, together
from headway.core.counted import decode as decode_counted
from headway.core.errors import HeadwayError
from headway.core.gateway import standing, wire
from headway.core.gateway.feeds import SentFeed, SentPortion
from headway.core.gateway.link import EngineLink
from headway.core.gateway.showing import Showing
from headway.core.gateway.wire import SentFault, read_arguments
from headway.core.interface import Engine, Feed, Later
from headway.core.status import BatchStatus, Status

log = logging.getLogger(__name__)

# Seconds between two tellings while something changes, and while nothing does.
TELL_S, TELL_IDLE_S = 0.02, 0.1
# Seconds between two tellings of run times, and while the first jobs run.
RUNS_S, FIRST_RUNS_S = 0.2, 0.1
# Gateways that wait to be let in.
BACKLOG = 128
# Seconds in which gateways send their last calls before a deploy, in which these are answered, and the answers taken.
PAUSE_S = 1.0


class Gateway:
    """One gateway, as the engine sees it."""

    def __init__(self, links: GatewayLinks) -> None:
        self._links = links
        self._engine = links.engine
        self.link = EngineLink(self._take, self._lost, waits=True)
        # By number: the calls that are not answered, with their names, and the readers of events.
        self._unanswered: dict[int, tuple[str, Later[object]]] = {}
        self._feeds: dict[int, Feed] = {}
        # The readers that have not taken the last portion, and those of them for whom there is another.
        self._busy: set[int] = set()
        self._behind: set[int] = set()
        # Whether it sends nothing more.
        self.is_paused = False
        # The last of what it has counted.
        self.counted = Counted()
        # What was last shown of the estimate, for ``Estimate.shown``.
        self.knows: dict[int, tuple[float, float, int]] = {}

    @property
    def has_unanswered(self) -> bool:
        """Whether calls are not answered that end by themselves. Of others the next program is asked again."""
        return any(name not in wire.WAITING for name, _ in self._unanswered.values())

    def _take(self, kind: int, number: int, message: bytes) -> None:
        if kind == wire.CALL:
            self._call(number, message)
            self._links.tell_soon()
        elif kind == wire.HURRY:
            if number in self._unanswered:
                self._unanswered[number][1].hurry()
        elif kind == wire.CANCEL:
            self._cancel(number)
        elif kind == wire.TAKEN:
            self._busy.discard(number)
            if number in self._behind:
                self._behind.discard(number)
                self._give(number)
        elif kind == wire.COUNTED:
            self.counted = decode_counted(message)
        elif kind == wire.PAUSED:
            self.is_paused = True

    def _call(self, number: int, message: bytes) -> None:
        name = wire.CALLS[message[0]]
        if name == "others":
            self.link.send(wire.VALUE, number, wire.encode(self._links.counted_by_others(self)))
            return
        with self._faults_told(number, name):
            given = [*read_arguments(name)(memoryview(message)[1:])]
            if given and isinstance(given[0], Status | BatchStatus):
                given[0] = self._present(given[0])
            soon = getattr(self._engine, name)(*given)
            if isinstance(soon, Later):
                self._unanswered[number] = name, soon
                soon.when_known(partial(self._known, number))
            else:
                self._answer(number, name, soon)

    def _present(self, before: Status | BatchStatus) -> Status | BatchStatus:
        """Return the present status of a job or batch that the gateway has read a moment ago."""
        peek = self._engine.peek if isinstance(before, Status) else self._engine.peek_batch
        now = peek(before.id)
        return now if isinstance(now, Status | BatchStatus) else before

    def _known(self, number: int) -> None:
        name, soon = self._unanswered.pop(number, ("", None))
        if soon is not None:
            with self._faults_told(number, name):
                self._answer(number, name, soon.value())

    @contextmanager
    def _faults_told(self, number: int, name: str) -> Iterator[None]:
        """Answer a call with the error that was raised."""
        try:
            yield
        except HeadwayError as error:
            self._fail(number, error)
        except Exception:
            log.exception("a call of %s failed", name)
            self._fail(number, HeadwayError("internal error: see the log of the server"))

    def _answer(self, number: int, name: str, value: object) -> None:
        if isinstance(value, Feed):
            self._feeds[number] = value
            if value.resumed:
                self._busy.add(number)
            self.link.send(wire.VALUE, number, wire.encode(SentFeed.of(value)))
            value.when_more(partial(self._give, number))
            return
        if name in ("switch", "revise"):
            # Before its own answer, each gateway knows of the change.
            self._links.tell()
        self.link.send(wire.VALUE, number, wire.encode(value))

    def _fail(self, number: int, error: HeadwayError) -> None:
        self.link.send(wire.FAULT, number, wire.encode(SentFault.of(error)))

    def _give(self, number: int) -> None:
        """Send the next events to a reader, once it has taken those before."""
        if number not in self._feeds:
            return
        if number in self._busy:
            self._behind.add(number)
            return
        self._busy.add(number)
        self.link.send(wire.EVENTS, number, wire.encode(SentPortion.of(self._feeds[number].take())))

    def _cancel(self, number: int) -> None:
        (_, soon), feed = self._unanswered.pop(number, ("", None)), self._feeds.pop(number, None)
        if soon is not None:
            soon.cancel()
        if feed is not None:
            feed.close()
            self._busy.discard(number)
            self._behind.discard(number)

    def _lost(self) -> None:
        for number in [*self._unanswered, *self._feeds]:
            self._cancel(number)
        self._links.gone(self)


class GatewayLinks:
    """All gateways of ``engine``. ``showing`` makes what they are told."""

    def __init__(self, engine: Engine, showing: Showing) -> None:
        self.engine = engine
        self._showing = showing
        self._loop = asyncio.get_running_loop()
        showing.when_message(self._said)
        self.gateways: list[Gateway] = []
        # The counts of those that have ended.
        self._ended = Counted()
        self._last = b""
        self._runs_at = self._told_at = 0.0
        # When a job had last begun or ended as they were told the run times.
        self._moved = -inf
        # Whether they are told at the end of this turn.
        self._is_soon = False
        self._timer: asyncio.TimerHandle | None = None
        self._listener: socket.socket | None = None
        self._entering: set[asyncio.Task[None]] = set()

    def remains(self) -> tuple[int, int] | None:
        """Return what is left to an engine that follows a crash, as Showing says."""
        return self._showing.remains()

    def listen(self, listener: socket.socket) -> None:
        """Let gateways in on a bound Unix socket."""
        listener.listen(BACKLOG)
        listener.setblocking(False)
        self._listener = listener
        self._loop.add_reader(listener, self._accept)

    def _accept(self) -> None:
        assert self._listener is not None
        try:
            connected, _ = self._listener.accept()
        except OSError:
            return
        connected.setblocking(False)
        task = self._loop.create_task(self.enter(connected))
        self._entering.add(task)
        task.add_done_callback(self._entering.discard)

    async def enter(self, connected: socket.socket) -> None:
        """Let a gateway in on a connected Unix socket, and tell it everything."""
        gateway = Gateway(self)
        try:
            fd = self._showing.board_fd
            socket.send_fds(connected, [b"\1" if fd >= 0 else b"\0"], [fd] if fd >= 0 else [])
            await self._loop.connect_accepted_socket(lambda: gateway.link, connected)
        except OSError:
            connected.close()
            return
        self.gateways.append(gateway)
        gateway.link.send(wire.HELLO, 0, standing.encode(self._showing.hello()))
        gateway.link.send(wire.SAID, 0, standing.encode(self._showing.messages))
        self._tell_one(gateway, standing.encode(self._showing.standing()))
        if self._timer is None:
            self._tell_again(TELL_S)

    def _said(self, sequence: int, message: str) -> None:
        """Tell a message in the turn that writes the progress of its job."""
        encoded = standing.encode({sequence: message})
        for gateway in self.gateways:
            gateway.link.send(wire.SAID, 0, encoded)

    def gone(self, gateway: Gateway) -> None:
        """Forget a gateway that has ended, but for its counts."""
        if gateway in self.gateways:
            self.gateways.remove(gateway)
            self._ended = together([self._ended, Counted(gateway.counted.ever)])

    def counted_by_others(self, asking: Gateway) -> Counted:
        """Return the counts of all gateways but one."""
        return together([self._ended, *(gateway.counted for gateway in self.gateways if gateway is not asking)])

    def tell(self) -> bool:
        """Tell all gateways how things stand. Return whether anything is new."""
        self._told_at = now = time.monotonic()
        self._is_soon = False
        message = standing.encode(self._showing.standing())
        is_new = message != self._last
        moved, has_first = self._showing.moved, self._showing.has_first
        # A job can begin and end between two of these, so that all stands as before.
        is_due = now - self._runs_at >= (FIRST_RUNS_S if has_first else RUNS_S)
        has_runs = is_due and (has_first or moved != self._moved)
        if has_runs:
            self._moved, self._runs_at = moved, now
        self._last = message
        if is_new or has_runs:
            for gateway in self.gateways:
                self._tell_one(gateway, message, runs=has_runs)
        return is_new

    def tell_soon(self) -> None:
        """Tell at the end of this turn, and in a moment if that was just done."""
        if self._is_soon:
            return
        self._is_soon = True
        left = self._told_at + TELL_S - time.monotonic()
        if left <= 0:
            self._loop.call_soon(self.tell)
        else:
            self._loop.call_later(left, self.tell)

    def _tell_one(self, gateway: Gateway, message: bytes, *, runs: bool = True) -> None:
        if gateway.link.unsent_bytes:
            # It is told once it takes something again.
            self._last, self._moved = b"", -inf
            return
        gateway.link.send(wire.OUTLOOK, 0, message)
        if runs:
            gateway.link.send(wire.RUN_TIMES, 0, wire.encode(self._showing.run_times(gateway.knows)))

    def _tell_again(self, seconds: float) -> None:
        self._timer = self._loop.call_later(seconds, self._tick)

    def _tick(self) -> None:
        self._timer = None
        if self.gateways:
            has_changed = False
            try:
                has_changed = self.tell()
            finally:
                # An error in what is told ends this tick alone.
                self._tell_again(TELL_S if has_changed else TELL_IDLE_S)

    async def pause(self) -> None:
        """Have the gateways keep their calls for the next program, and answer those that came."""
        for gateway in self.gateways:
            gateway.link.send(wire.PAUSE)
        await self._until(lambda: all(gateway.is_paused for gateway in self.gateways))
        await self._until(lambda: not any(gateway.has_unanswered for gateway in self.gateways))
        # The last of them leave with the end of this turn.
        await asyncio.sleep(0)
        await self._until(lambda: not any(gateway.link.unsent_bytes for gateway in self.gateways))

    async def _until(self, reached: Callable[[], bool]) -> None:
        until = time.monotonic() + PAUSE_S
        while not reached() and time.monotonic() < until:  # noqa: ASYNC110 — once
            await asyncio.sleep(0.001)

    def close(self) -> None:
        """Let nobody in, and end all links, once all was sent."""
        if self._listener is not None:
            self._loop.remove_reader(self._listener)
        if self._timer is not None:
            self._timer.cancel()
        for gateway in self.gateways[:]:
            gateway.link.close()
