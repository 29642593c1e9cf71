"""The parent of a server with gateways: it opens the sockets and keeps them, and starts what dies again.

It imports little and does little, so that it has no reason to die. It keeps the sockets of clients, of which each
gateway has one under the same address (SO_REUSEPORT), so that no client is turned away while a gateway starts again.
It keeps the rows of the engine, too, for the engine that follows one that has crashed.

Signals are those of a server alone: SIGTERM and SIGINT go to the engine, which drains, and the gateways end after
it. SIGHUP deploys the engine. If the new program is another one for gateways, too, each is replaced in turn: the new
one serves before the old one lets its clients go.
"""

from __future__ import annotations

import logging
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from typing import NoReturn

from headway.core.config import Config
from headway.core.errors import ConfigError
from headway.core.memfile import nameless_file
from headway.protocol.node import EXIT_JOURNAL
from headway.protocol.process import logs, parts, systemd
from headway.protocol.process.listener import Listener, open_listener
from headway.protocol.process.parts import ENGINE_DOING, ServerPart, gateways_of

log = logging.getLogger(__name__)

# Seconds until a part that has died is started again: at first, at most, and after which it counts as healthy.
AGAIN_S, AGAIN_MOST_S, HEALTHY_S = 0.05, 5.0, 10.0
# Seconds that gateways take to let their clients go.
LEAVE_S = 10.0
# Signals that are passed on to the engine.
TO_ENGINE = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
MESSAGE_BYTES = 4096
FDS_MOST = 4


class Child:
    """A part as a process, and its socket."""

    def __init__(self, what: str, number: int, listener: socket.socket) -> None:
        self.what = what
        self.number = number
        self.listener = listener
        self.process: subprocess.Popen[bytes] | None = None
        # When it was started, and when it is started again, of time.monotonic.
        self.started = 0.0
        self.again = 0.0
        self.delay = AGAIN_S

    def __str__(self) -> str:
        return "the engine" if self.what == "engine" else f"gateway {self.number}"


def supervise(config: Config) -> NoReturn:
    """Serve with gateways until a signal. Raises ConfigError if a socket cannot be had."""
    logs.set_up(config.log)
    supervisor = Supervisor(config)
    try:
        code = supervisor.run()
    finally:
        supervisor.close()
    sys.exit(code)


class Supervisor:
    """The parts of one server."""

    def __init__(self, config: Config) -> None:
        self._notify = systemd.address_of(os.environ.pop("NOTIFY_SOCKET", ""))
        os.environ.pop("WATCHDOG_PID", None)
        passed = systemd.activated(os.environ)
        self._count = gateways_of(config)
        self._listeners = _listeners(config, passed, self._count)
        self._is_passed = passed is not None
        try:
            self._folder = tempfile.mkdtemp(prefix="headway-")
        except OSError as error:
            raise ConfigError(f"server.gateways: no folder for sockets can be made: {error}: set TMPDIR") from None
        self._path = os.path.join(self._folder, "engine")
        inner = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            inner.bind(self._path)
            self._notices.bind(parts.notify_path(self._folder))
        except OSError as error:
            # A path of over 107 bytes, for instance.
            os.rmdir(self._folder)
            raise ConfigError(
                f"server.gateways: no socket can be made in {self._folder}: {error.strerror or error}: set TMPDIR to "
                "another folder"
            ) from None
        inner.listen(self._count * 4)
        self._notices.setblocking(False)
        self._engine = Child("engine", 0, inner)
        self._gateways = [
            Child("gateway", number, self._listeners[number % len(self._listeners)].socket)
            for number in range(self._count)
        ]
        # Gateways of the program before, which let their clients go.
        self._leaving: list[Child] = []
        # The numbers of gateways to be replaced by one of the new program, and the gateway whose successor starts.
        self._to_replace: list[int] = []
        self._old: Child | None = None
        self._program = ""
        self._is_open = self._was_ready = False
        # The gateways that serve, by process, and what systemd is told once all do.
        self._serving: set[int] = set()
        self._untold: list[str] = []
        self._url = self._listeners[0].url(config.server.scheme) + config.http.base
        # The file in which all gateways keep how much each client may still ask for.
        self._rates_fd = nameless_file("headway-rates")
        # The settings of the engine, for parts that are started again, and the files that it has left for the next one.
        self._settings_fd = -1
        self._left: list[int] = []
        # The process of an engine that means to end.
        self._ending = 0
        # Whether a SIGHUP came while there was no engine.
        self._is_to_deploy = False
        # The exit code, once the server ends.
        self._code: int | None = None
        self._ends = False
        self._until = 0.0
        self._wakeup, writer = socket.socketpair()
        self._wakeup.setblocking(False)
        writer.setblocking(False)
        self._writer = writer
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._notices, selectors.EVENT_READ, self._hear)
        self._selector.register(self._wakeup, selectors.EVENT_READ, self._wake)
        self._signals: list[int] = []

    def run(self) -> int:
        """Run all parts until the server ends. Return its exit code."""
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, lambda number, _: self._signals.append(number))
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            signal.signal(signal.SIGHUP, lambda number, _: self._signals.append(number))
        self._start(self._engine)
        while self._code is None or self._alive():
            for key, _ in self._selector.select(self._wait_s()):
                key.data()
            self._take_signals()
            self._reap()
            self._start_again()
            if self._until and time.monotonic() > self._until:
                self._signal_gateways(signal.SIGKILL)
                self._until = 0.0
        return self._code

    def close(self) -> None:
        """End what is left, and close the sockets."""
        for child in (self._engine, *self._gateways, *self._leaving):
            if child.process is not None:
                child.process.kill()
        for listener in self._listeners:
            listener.close()
        self._engine.listener.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    # Starting.

    def _start(self, child: Child) -> None:
        """Start a part, or try again later. The other parts go on if that is impossible."""
        is_engine = child.what == "engine"
        rows_fd, left_fd = self._left if is_engine and self._left else (-1, -1)
        part = ServerPart(
            what="engine" if is_engine else "gateway",
            fd=child.listener.fileno(),
            path=self._path,
            number=child.number,
            count=self._count,
            host=self._listeners[0].host,
            place=self._listeners[0].place,
            passed=self._is_passed,
            parent=os.getpid(),
            rates_fd=-1 if is_engine else self._rates_fd,
            settings_fd=self._settings_fd,
            rows_fd=rows_fd,
            left_fd=left_fd,
        )
        child.started, child.again = time.monotonic(), 0.0
        # An engine that follows another takes them once it can. It would die of them, and what they ask for be lost.
        unblocked = signal.pthread_sigmask(signal.SIG_BLOCK, TO_ENGINE if is_engine and part.follows else ())
        try:
            child.process = subprocess.Popen(  # noqa: S603 — our own command
                [sys.executable, *sys.orig_argv[1:]],
                env=os.environ | part.environment() | {"NOTIFY_SOCKET": parts.notify_path(self._folder)},
                pass_fds=[fd for fd in (part.fd, part.rates_fd, part.settings_fd, rows_fd, left_fd) if fd >= 0],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as error:
            # There may be no process, memory or file for it now, or a new Python is being installed.
            log.error("%s cannot be started: %s. It is tried again in %.2f s", child, error, self._again(child))
            return
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)
        if is_engine and self._is_to_deploy:
            self._is_to_deploy = False
            child.process.send_signal(signal.SIGHUP)
        if not is_engine:
            log.debug("%s is process %d", child, child.process.pid)

    def _start_again(self) -> None:
        now = time.monotonic()
        for child in (self._engine, *self._gateways):
            if child.process is None and child.again and child.again <= now:
                self._start(child)

    def _wait_s(self) -> float | None:
        times = [child.again for child in (self._engine, *self._gateways) if child.again] + [self._until]
        times = [at for at in times if at]
        return max(min(times) - time.monotonic(), 0.0) if times else None

    def _alive(self) -> bool:
        return any(child.process is not None for child in (*self._gateways, *self._leaving))

    # What the parts tell.

    def _hear(self) -> None:
        while True:
            try:
                message, fds, _, _ = socket.recv_fds(self._notices, MESSAGE_BYTES, FDS_MOST)
            except BlockingIOError:
                return
            self._told_by_part(message.decode(errors="replace"), fds)

    def _told_by_part(self, message: str, fds: list[int]) -> None:
        name, _, value = message.partition("=")
        if name == parts.PROGRAM:
            self._is_ready(value, fds)
            return
        # Nobody of ours sends any here. A task knows this socket, too.
        _close(fds)
        if name == parts.OPEN:
            self._opened()
        elif name == parts.SERVING:
            if value.isdecimal():
                self._serves(int(value))
        elif name == parts.ENDS:
            if value.isdecimal():
                self._ending = int(value)
        elif message.startswith("READY=1"):
            self._untold.append(message)
            self._tell()
        else:
            self._pass_on(message)

    def _tell(self) -> None:
        """Pass on to systemd that the engine is ready, once all gateways serve."""
        pids = {child.process.pid for child in self._gateways if child.process is not None}
        if len(pids) < self._count or not pids <= self._serving:
            return
        untold, self._untold = self._untold, []
        for message in untold:
            told = message.partition("X_TOLD=")[2]
            if told:
                # Else it goes on as before.
                log.info("serving %s %s; %d gateways", self._url, told, self._count)
            self._pass_on(message.replace(ENGINE_DOING % self._count, f"serving {self._url}"))

    def _pass_on(self, message: str) -> None:
        if self._notify:
            with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.sendto(message.encode(), self._notify)

    def _opened(self) -> None:
        """The settings are good: gateways may come."""
        if not self._is_open:
            self._is_open = True
            for child in self._gateways:
                self._start(child)

    def _is_ready(self, program: str, fds: list[int]) -> None:
        """An engine serves. Keep its rows. If it is of another program than the gateways, replace them in turn."""
        _close([self._settings_fd, *self._left])
        self._settings_fd, self._left = -1, []
        if len(fds) in (1, 3):
            self._settings_fd, *self._left = fds
        else:
            log.error("the files of the engine have not come: what follows a crash of it knows none of its jobs")
            _close(fds)
        self._was_ready = True
        if self._program and program != self._program:
            # All of them anew, also those that were replaced for the program before.
            self._to_replace = [*range(self._count)]
            self._replace_next()
        self._program = program

    def _replace_next(self) -> None:
        """Start a gateway of the new program beside the next one to be replaced, one at a time."""
        if self._old is not None or not self._to_replace or self._ends:
            return
        number = self._to_replace.pop(0)
        self._old = old = self._gateways[number]
        self._leaving.append(old)
        self._gateways[number] = Child("gateway", number, old.listener)
        self._start(self._gateways[number])

    def _serves(self, pid: int) -> None:
        """A gateway lets clients in. If it is a successor, the one before lets its clients go."""
        self._serving.add(pid)
        self._tell()
        old = self._old
        now = None if old is None else self._gateways[old.number].process
        if old is not None and now is not None and now.pid == pid:
            self._old = None
            if old.process is not None:
                old.process.send_signal(signal.SIGTERM)
            self._replace_next()

    # Signals and ends.

    def _wake(self) -> None:
        with suppress(BlockingIOError):
            while self._wakeup.recv(4096):
                pass

    def _take_signals(self) -> None:
        while self._signals:
            number = self._signals.pop(0)
            if number == signal.SIGCHLD:
                continue
            if number in (signal.SIGTERM, signal.SIGINT):
                self._ends = True
            if self._engine.process is not None:
                self._engine.process.send_signal(number)
            elif self._ends:
                self._end(0)
            else:
                self._is_to_deploy = True

    def _reap(self) -> None:
        for child in (self._engine, *self._gateways, *self._leaving):
            code = None if child.process is None else child.process.poll()
            if code is None:
                continue
            pid = child.process.pid if child.process is not None else 0
            self._serving.discard(pid)
            child.process = None
            if child is self._engine:
                # Its last words may have come since the last look.
                self._hear()
                self._engine_ended(code, self._ending == pid)
            elif child in self._leaving:
                self._leaving.remove(child)
            elif self._code is None:
                # Clients read statuses during a drain, too.
                self._died(child, code)

    def _engine_ended(self, code: int, is_meant: bool) -> None:
        # One that means to end for its journal would end for it again.
        if self._was_ready and not self._ends and not (is_meant and code == EXIT_JOURNAL):
            self._died(self._engine, code)
            return
        # One that means to end has said why itself.
        if not is_meant and self._ends:
            log.error("the engine ended %s before it was drained: the server ends", _how(code))
        elif not is_meant:
            log.error("the engine ended %s before it served: the server ends", _how(code))
        self._end(code if code >= 0 else 128 - code)

    def _died(self, child: Child, code: int) -> None:
        log.error("%s ended %s, and is started again in %.2f s", child, _how(code), self._again(child))

    def _again(self, child: Child) -> float:
        """Have a part started again, later and later if it does not last. Return in how many seconds."""
        now = time.monotonic()
        child.delay = AGAIN_S if now - child.started > HEALTHY_S else min(child.delay * 2, AGAIN_MOST_S)
        child.again = now + child.delay
        return child.delay

    def _end(self, code: int) -> None:
        """The engine has ended: the gateways end, too."""
        self._ends = True
        self._code = code
        self._until = time.monotonic() + LEAVE_S
        for child in (self._engine, *self._gateways):
            child.again = 0.0
        self._signal_gateways(signal.SIGTERM)

    def _signal_gateways(self, number: int) -> None:
        for child in (*self._gateways, *self._leaving):
            if child.process is not None:
                child.process.send_signal(number)


def _how(code: int) -> str:
    return f"with exit code {code}" if code >= 0 else f"by signal {-code}"


def _close(fds: list[int]) -> None:
    for fd in fds:
        if fd >= 0:
            os.close(fd)


def _listeners(config: Config, passed: socket.socket | None, count: int) -> list[Listener]:
    """Return a socket for each gateway, or one for all if it is a Unix socket or systemd's. Raises ConfigError."""
    if passed is not None or config.server.socket is not None:
        return [open_listener(config, passed)]
    if not hasattr(socket, "SO_REUSEPORT"):
        raise ConfigError("server.gateways: this system cannot share a port (SO_REUSEPORT): use 0 gateways")
    first = open_listener(config, None, shared=True)
    rest = [open_listener(config, None, shared=True, place=first.place) for _ in range(count - 1)]
    return [first, *rest]
