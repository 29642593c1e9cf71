"""The server: listen, serve until told to end or to be executed anew, drain.

SIGTERM and SIGINT drain: no new jobs, statuses stay readable, running and waiting jobs are waited for until
``drain_timeout``; with a journal only the running ones, since the others are on disk. Exit code 0 when nothing was
lost, 1 when jobs were, 3 when the journal could not be read or written.

SIGHUP executes the program anew, in this process and on the same socket, once it is known that it would start. What has
to be over before is waited for as in a drain; where it is not over by ``drain_timeout``, we go on serving. The reasons
are in docs/adr/0009.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import resource
import sys
import time
from typing import NoReturn

from headway.core import forks
from headway.core.apart import apart
from headway.core.config import Config, ignored
from headway.core.local.engine import LocalEngine
from headway.core.local.recovering import Recovering
from headway.core.open import open_engine
from headway.core.tasks.registry import REGISTRY
from headway.protocol import check, footprint
from headway.protocol.api.app import Api
from headway.protocol.http.connection import Connection
from headway.protocol.http.connections import TICK_S
from headway.protocol.process import deploy, listener, logs, signals, systemd
from headway.protocol.process.acceptor import Acceptor
from headway.protocol.process.deploy import Left, Program, Taken
from headway.protocol.process.listener import Listener
from headway.protocol.process.loop import run_to_its_end
from headway.protocol.process.signals import Told
from headway.protocol.process.systemd import Notifier

log = logging.getLogger(__name__)

EXIT_JOBS_LEFT = 1
EXIT_NOT_EXECUTED = 1
EXIT_JOURNAL = 3
GC_THRESHOLD = (50_000, 20, 50)
# Files a server needs besides its clients' connections.
SPARE_FILES = 64
# Before a deploy: seconds in which clients that are connected get an answer that says that it is the last; then, with
# nobody let in any more, those who came at the last moment; and in which the last bytes leave.
LAST_ANSWERS_S = 0.5
LATE_ANSWERS_S = 0.1
LAST_BYTES_S = 0.05
# How long one thread may keep the GIL while another waits for it. The loop waits for tasks that compute in threads:
# with CPython's 5 ms each answer beside such a task is that late.
SWITCH_S = 0.0005


def run(config: Config) -> NoReturn:
    """Serve until a signal, then end the process. Raises ConfigError where the configuration cannot be used."""
    # Until we serve, nearly all that is made stays: a journal is read in a tenth less time.
    gc.disable()
    logs.set_up(config.log)
    if others := ignored(os.environ):
        log.debug("variables that are no settings, and are ignored: %s", ", ".join(others))
    program, told, notifier = Program(config), Told(), Notifier(os.environ)
    # Before any code of a task runs, which is not to see what was passed.
    before, passed = deploy.take(os.environ), systemd.activated(os.environ)
    if before is not None:
        told.listen_early()
    check.usable(config)
    if before is None:
        listens = listener.take(config, passed)
    else:
        listens = before.listener
        listener.compare(listens, config)
    _raise_file_limit(config.limits.connections)
    ended = run_to_its_end(Server(config, listens, program, told, notifier).serve(before))
    if isinstance(ended, int):
        # The loop has ended, and with it what acts on a second signal.
        told.listen_early()
        leave(ended)
    left = ended
    signals.leave(lambda: _execute(program, left, os.environ | notifier.environment))


def leave(code: int) -> NoReturn:
    """End the process, once what task modules have registered with atexit has run."""
    signals.leave(lambda: signals.end(code))


def _execute(program: Program, left: Left, environment: dict[str, str]) -> NoReturn:
    signals.flush()
    try:
        program.execute(left, environment)
    except OSError as error:
        log.error("the program cannot be executed anew: %s", error)
        signals.end(EXIT_NOT_EXECUTED)


class Server:
    """One image of the program at its work."""

    def __init__(self, config: Config, listener: Listener, program: Program, told: Told, notifier: Notifier) -> None:
        self._config = config
        self._listener = listener
        self._program = program
        self._told = told
        self._notifier = notifier

    async def serve(self, before: Taken | None) -> int | Left:
        """Serve until a signal to end, and return the exit code; or until a deploy, and return what goes over."""
        self._told.listen()
        self._keep_from_children()
        recovering = Recovering(self._config)
        self._api = Api(self._config, recovering)
        if before is None:
            self._accept()
        self._ticker = asyncio.create_task(self._tick())
        engine = await self._open(recovering, before)
        if engine is None:
            return 0
        self._engine = self._api.service.engine = engine
        engine.start(_journal_failed)
        if before is not None:
            # Who came meanwhile goes on waiting until now, rather than to be told that we do not know yet.
            self._accept()
        # What lives from here to the end need not be looked at by the garbage collector; and since nothing on the road
        # of a request makes cycles, it need not look often. Tasks may make them, so it still looks.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLD)
        gc.enable()
        sys.setswitchinterval(SWITCH_S)
        self._announce(before)
        while not self._told.to_end:
            await self._told.wait()
            if self._told.take_deploy() and await self._may_deploy():
                left = await self._leave()
                return 0 if self._told.to_end else left
        return await self._end()

    def _keep_from_children(self) -> None:
        """See that processes that tasks fork have nothing of ours."""
        # What the loop waits by: a child that comes back to the loop ends there.
        wait_fd = getattr(asyncio.get_running_loop(), "_get_backend_id", int)()
        if wait_fd > 0:
            forks.keep(wait_fd)
        port = self._listener.socket.getsockname()[1]
        forks.in_child(lambda: listener.close_all_at(port))

    def _accept(self) -> None:
        backlog = self._config.server.backlog
        self._acceptor = Acceptor(self._listener.socket, backlog, lambda: Connection(self._api.connections))

    async def _open(self, recovering: Recovering, before: Taken | None) -> LocalEngine | None:
        """Open the engine, off the loop where there is a journal to read; None where a signal came first."""
        path = self._config.journal.path
        if path is None:
            return open_engine(self._config, REGISTRY, lambda _: None, before and before.carried)
        begun = said = time.monotonic()

        def progress(read: int) -> None:
            nonlocal said
            recovering.read = read
            if time.monotonic() - said > TICK_S:
                said = time.monotonic()
                log.info("recovering: %d jobs read", read)

        log.info("recovering from %s", path)
        engine = await self._told.unless_end(apart(lambda: open_engine(self._config, REGISTRY, progress)))
        if engine is None:
            log.info("ended while recovering")
        else:
            log.info("recovered %d jobs in %.2f s", recovering.read, time.monotonic() - begun)
        return engine

    async def _end(self) -> int:
        """Drain, and end all there is."""
        self._notifier.stopping()
        engine, config = self._engine, self._config
        active = engine.counts().active
        text = "draining: %d jobs; %g s for those to finish that are waited for; a second signal ends at once"
        log.info(text, active, config.drain_timeout)
        left = await engine.drain(config.drain_timeout)
        if active:
            # Whoever waits for one of the last jobs can still read how it ended.
            await asyncio.sleep(config.drain_linger)
        if engine.durable:
            log.info(
                "drained: %d jobs are left to the next start, %d of them still running", engine.counts().active, left
            )
            left = 0
        elif left:
            log.error("drain_timeout is over: %d jobs are lost", left)
        else:
            log.info("drained")
        await self._acceptor.stop()
        self._listener.socket.close()
        await self._api.connections.close()
        self._ticker.cancel()
        await engine.stop()
        await engine.close()
        return EXIT_JOBS_LEFT if left else 0

    async def _may_deploy(self) -> bool:
        """See that the new program would start and that no job is active; if not, go on as before."""
        self._notifier.reloading()
        fault = await self._told.unless_end(self._program.check())
        if fault is None and not self._told.to_end:
            fault = await self._told.unless_end(self._wait_for_jobs())
            if self._told.take_deploy() and fault is None:
                # The program has changed again.
                fault = await self._told.unless_end(self._program.check())
        if self._told.to_end:
            return False
        if fault is not None:
            log.error("not deployed, and serving on as before: %s", fault)
            self._engine.resume()
            self._notifier.ready(f"serving {self._listener.url}; not deployed: {fault}")
        return fault is None

    async def _wait_for_jobs(self) -> str | None:
        """Let end what has to be over before the program is executed anew; return what is not, None where all is."""
        seconds = self._config.drain_timeout
        text = "deploying: %d jobs; %g s for those to finish that are waited for"
        log.info(text, self._engine.counts().active, seconds)
        left = await self._engine.drain(seconds)
        if left and not self._engine.durable:
            return f"{left} jobs were not over within drain_timeout"
        # What still runs is begun again by the new image.
        return None

    async def _leave(self) -> Left:
        """End all but the socket and the rows, and return what goes over."""
        connections = self._api.connections
        await self._engine.stop()
        await connections.wind_down(LAST_ANSWERS_S)
        await self._acceptor.stop()
        since = time.monotonic()
        await connections.wind_down(LATE_ANSWERS_S)
        await connections.close(LAST_BYTES_S)
        self._ticker.cancel()
        await self._engine.close()
        left = deploy.leave(self._listener, self._engine, since)
        log.info("executing the program anew: %s", " ".join(self._program.command))
        await self._told.hold()
        return left

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self._api.connections.tick()
            self._notifier.alive()

    def _announce(self, before: Taken | None) -> None:
        config, counts = self._config, self._engine.counts()
        parts = footprint.parts(config, counts)
        told = ", ".join(f"{name} {size_bytes / 2**20:.1f}" for name, size_bytes in parts.items())
        log.info(
            "board: %d rows of %d bytes; memory in MiB: %s: at most %.1f MiB besides the program and its tasks",
            counts.rows,
            counts.row_bytes,
            told,
            sum(parts.values()) / 2**20,
        )
        if not REGISTRY.tasks:
            log.warning(check.NO_TASKS)
        if before is not None:
            log.info("deployed; nobody was answered for %.2f s", time.monotonic() - before.since)
        url = self._listener.url
        if not check.is_loopback(self._listener.socket.getsockname()[0]):
            log.warning(check.beyond_loopback(url))
        log.info("serving %s with %d workers and %d tasks", url, config.workers, len(REGISTRY.tasks))
        self._notifier.ready(f"serving {url}")


def _journal_failed(line: str) -> NoReturn:
    log.critical("%s; ending, since nothing can be kept any more", line)
    signals.end(EXIT_JOURNAL)


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
