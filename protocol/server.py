"""The server: listen, serve until told to end, drain.

SIGTERM and SIGINT drain: no new jobs, statuses stay readable, running and waiting jobs are waited for until
``drain_timeout``; with a journal only the running ones, since the others are on disk. Exit code 0 when nothing was
lost, 1 when jobs were, 3 when the journal could not be read or written. A second signal ends at once, with the code
that the signal stands for (128 + its number).
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import resource
import signal
import socket
import sys
import time
from typing import NoReturn, cast

import uvloop
from headway.core.config import Config
from headway.core.engine import Engine
from headway.core.errors import ConfigError
from headway.core.opening import Recovering, open_engine
from headway.core.registry import REGISTRY, add_working_directory, load
from headway.protocol import logs
from headway.protocol.acceptor import Acceptor
from headway.protocol.connection import Connection
from headway.protocol.limits import limits
from headway.protocol.service import TICK_S, Service

log = logging.getLogger(__name__)

EXIT_JOBS_LEFT = 1
EXIT_JOURNAL = 3
# A signal to a process group reaches us twice where make, or a shell, passes on its own.
SAME_SIGNAL_S = 0.05
GC_THRESHOLD = (50_000, 20, 50)
# Files a server needs besides its clients' connections.
SPARE_FILES = 64


def run(config: Config) -> NoReturn:
    """Serve until a signal, then end the process. Raises ConfigError where the configuration cannot be used."""
    logs.set_up(config.log)
    check(config)
    listener = _listen(config)
    _raise_file_limit(config.limits.connections)
    # Not uvloop.run, which would wait for tasks that ignore their cancellation.
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    _end(loop.run_until_complete(serve(config, listener)))


def check(config: Config) -> None:
    """Read the limits and import the task modules; raises ConfigError where one cannot be used."""
    limits(config)
    add_working_directory()
    load(config.tasks)


async def serve(config: Config, listener: socket.socket) -> int:
    """Serve on ``listener`` until a signal, drain, and return the exit code."""
    loop = asyncio.get_running_loop()
    told = Told()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.signal, number)
    recovering = Recovering()
    service = Service(config, cast(Engine, recovering))
    acceptor = Acceptor(listener, config.server.backlog, lambda: Connection(service))
    ticker = asyncio.create_task(_tick(service))
    engine = await _open(config, recovering, told)
    if engine is None:
        return 0
    service.engine = engine
    engine.start(_journal_failed)
    # What lives from here to the end need not be looked at by the garbage collector; and since nothing on the road of
    # a request makes cycles, it need not look often. Tasks may make them, so it still looks.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLD)
    sys.setswitchinterval(float(os.environ.get("SWI", "0.005")))
    _announce(config, engine, listener)
    await told.wait()
    left = await _drain(config, engine)
    acceptor.close()
    await service.close()
    ticker.cancel()
    await engine.stop()
    return EXIT_JOBS_LEFT if left else 0


async def _open(config: Config, recovering: Recovering, told: Told) -> Engine | None:
    """Open the engine, off the loop where there is a journal to read; None where a signal came first."""
    if config.journal.path is None:
        return open_engine(config, REGISTRY, lambda _: None)
    begun = time.monotonic()
    said = begun

    def progress(read: int) -> None:
        nonlocal said
        recovering.read = read
        if time.monotonic() - said > TICK_S:
            said = time.monotonic()
            log.info("recovering: %d jobs read", read)

    log.info("recovering from %s", config.journal.path)
    opening = asyncio.ensure_future(asyncio.to_thread(open_engine, config, REGISTRY, progress))
    ending = asyncio.ensure_future(told.wait())
    await asyncio.wait((opening, ending), return_when=asyncio.FIRST_COMPLETED)
    if not opening.done():
        log.info("ended while recovering")
        return None
    ending.cancel()
    engine = opening.result()
    log.info("recovered %d jobs in %.2f s", recovering.read, time.monotonic() - begun)
    return engine


def _journal_failed(line: str) -> NoReturn:
    log.critical("%s; ending, since nothing can be kept any more", line)
    _end(EXIT_JOURNAL)


async def _drain(config: Config, engine: Engine) -> int:
    """Wait for the jobs there are; return how many are left."""
    active = len(engine.active)
    log.info(
        "draining: %d jobs; %g s for those to finish that are waited for; a second signal ends at once",
        active,
        config.drain_timeout,
    )
    left = await engine.drain(config.drain_timeout)
    if active:
        # Whoever waits for one of the last jobs can still read how it ended.
        await asyncio.sleep(config.drain_linger)
    if engine.journal is not None:
        log.info("drained: %d jobs are left to the next start, %d of them still running", len(engine.active), left)
        return 0
    if left:
        log.error("drain_timeout is over: %d jobs are lost", left)
    else:
        log.info("drained")
    return left


class Told:
    """The signals that came. What comes within SAME_SIGNAL_S of the first is the first, come by another way."""

    def __init__(self) -> None:
        self._at = 0.0
        self._event = asyncio.Event()
        self.wait = self._event.wait

    def signal(self, number: int) -> None:
        """Take a signal; the second ends the process."""
        now = time.monotonic()
        if not self._event.is_set():
            self._at = now
            self._event.set()
        elif now - self._at > SAME_SIGNAL_S:
            log.warning("second signal: ending at once")
            _end(128 + number)


def _end(code: int) -> NoReturn:
    """End the process without waiting for threads that tasks may never return from."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


async def _tick(service: Service) -> None:
    while True:
        await asyncio.sleep(TICK_S)
        service.tick()


def _listen(config: Config) -> socket.socket:
    host, port = config.server.host, config.server.port
    where = f"server.host {host!r}, server.port {port}"
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"cannot listen on {where}: {getattr(error, 'strerror', None) or error}") from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise ConfigError(f"cannot listen on {where}: {error.strerror or error}") from None
    return listener


def _raise_file_limit(connections: int) -> None:
    """Raise the soft limit of open files as far as it goes and is needed; say so where it is too low."""
    needed = connections + SPARE_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= needed:
        return
    most = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    if most < needed:
        log.warning(
            "limits.connections is %d, but this process may open %d files: raise it with ulimit -n",
            connections,
            hard,
        )


def _announce(config: Config, engine: Engine, listener: socket.socket) -> None:
    board = engine.board
    log.info(
        "board: %d rows of %d bytes, rings %.1f MiB: at most %.1f MiB; results: at most %.1f MiB",
        board.rows,
        board.size_bytes // board.rows,
        engine.active.queue.size_bytes / 2**20,
        engine.memory_bytes / 2**20,
        config.results.max_bytes / 2**20,
    )
    if not engine.registry.tasks:
        log.warning("no tasks: name the modules that declare them under tasks: in config.yaml")
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    log.info(
        "serving http://%s:%d with %d workers and %d tasks",
        shown,
        port,
        config.workers,
        len(engine.registry.tasks),
    )
