"""The server: listen, serve until a signal to end or to deploy, drain.

SIGTERM and SIGINT drain. The server takes no new jobs, and statuses stay readable. It waits for
running and waiting jobs until ``drain_timeout``. With a journal it waits for the running ones only,
because the others are on disk. The exit code is 0 if no job was lost, 1 if jobs were lost, and 3 if
the journal could not be made, read or written.

SIGHUP deploys. Once a check has shown that the new program would start, the server executes it, in
this process and on the same socket. Before that it waits, as in a drain, for the jobs that have to
finish. If they have not finished by ``drain_timeout``, the server goes on serving. The reasons are
in docs/adr/0009.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import resource
import signal
import sys
import time
from typing import NoReturn

from headway.core import forks
from headway.core.apart import apart
from headway.core.config import DEFAULT_JOURNAL, Config, ignored
from headway.core.durability import SURVIVES
from headway.core.errors import ConfigError
from headway.core.local.engine import LocalEngine
from headway.core.local.recovering import Recovering
from headway.core.open import open_engine
from headway.core.tasks.registry import REGISTRY
from headway.protocol import check, footprint
from headway.protocol.api.app import Api
from headway.protocol.http.connection import Connection
from headway.protocol.http.connections import TICK_S
from headway.protocol.process import deploy, logs, signals, systemd
from headway.protocol.process.acceptor import Acceptor
from headway.protocol.process.deploy import Left, Program, Taken
from headway.protocol.process.listener import Listener, close_all_at, open_listener, warn_of_port
from headway.protocol.process.loop import run_to_its_end
from headway.protocol.process.reload import Watch
from headway.protocol.process.signals import Told
from headway.protocol.process.systemd import Notifier

log = logging.getLogger(__name__)

EXIT_JOBS_LEFT = 1
EXIT_NOT_EXECUTED = 1
EXIT_JOURNAL = 3
GC_THRESHOLD = (50_000, 20, 50)
# Files that a server needs besides its clients' connections.
SPARE_FILES = 64
# Seconds before a deploy. First, connected clients get an answer that says that it is the last.
# Then nobody is let in any more, and clients that came at the last moment get theirs. Then the last
# bytes leave.
LAST_ANSWERS_S = 0.5
LATE_ANSWERS_S = 0.1
LAST_BYTES_S = 0.05
# Seconds for which one thread may keep the GIL while another waits for it. The loop waits for tasks
# that compute in threads. With CPython's 5 ms each answer beside such a task is that late.
SWITCH_S = 0.0005


def run(config: Config, remark: str | None = None, watch: Watch | None = None) -> NoReturn:
    """Serve until a signal, then end the process. Log ``remark`` about the settings first.

    With ``watch`` deploy after each change of the program.

    Raises ConfigError if ``config`` is unusable.
    """
    # Until the server serves, nearly all objects that are made stay. Without the collector a
    # journal is read in a tenth less time.
    gc.disable()
    logs.set_up(config.log)
    if remark:
        log.warning(remark)
    if others := ignored(os.environ):
        log.debug("variables ignored, because they are no settings: %s", ", ".join(others))
    told, notifier = Told(), Notifier(os.environ)
    # Before any code of a task runs: it must not see anything that was passed.
    before, passed = deploy.take_over(os.environ), systemd.activated(os.environ)
    if before is not None:
        told.listen_early()
    if deploy.goes_on_in_memory(config, before):
        log.warning(
            "journal.path is %s by default, but jobs stay in memory as before, until the next restart", DEFAULT_JOURNAL
        )
        config = deploy.in_memory(config)
    program = Program(config)
    check.usable(config)
    if before is None:
        listener = open_listener(config, passed)
    else:
        listener = before.listener
        warn_of_port(listener, config)
    _raise_file_limit(config.limits.connections)
    ended = run_to_its_end(Server(config, listener, program, told, notifier, watch=watch).serve(before))
    if isinstance(ended, int):
        # The loop has ended, and with it its handlers of a second signal.
        told.listen_early()
        leave(ended)
    left = ended
    signals.leave(lambda: _execute(program, left, os.environ | notifier.environment))


def leave(code: int) -> NoReturn:
    """End the process, after the handlers that task modules have registered with atexit."""
    signals.leave(lambda: signals.end(code))


def _execute(program: Program, left: Left, environment: dict[str, str]) -> NoReturn:
    signals.flush()
    try:
        program.execute(left, environment)
    except OSError as error:
        log.error("cannot execute the new program: %s", error)
        signals.end(EXIT_NOT_EXECUTED)


class Server:
    """One program at its work, from its start to its end or to the next deploy."""

    def __init__(
        self,
        config: Config,
        listener: Listener,
        program: Program,
        told: Told,
        notifier: Notifier,
        *,
        watch: Watch | None = None,
    ) -> None:
        self._config = config
        self._listener = listener
        self._program = program
        self._told = told
        self._notifier = notifier
        self._watch = watch

    async def serve(self, before: Taken | None) -> int | Left:
        """Serve until a signal to end or to deploy. Return the exit code, or the handover."""
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
        if not await self._begin(engine):
            return 0
        self._engine = engine
        self._api.service.use(engine)
        if before is not None:
            # Clients that came meanwhile wait until now. Earlier they would be told that no job is
            # known yet.
            self._accept()
        # The garbage collector need not look at objects that live from here to the end. The road of
        # a request makes no cycles, so it need not look often. Tasks may make cycles, so it still
        # looks.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLD)
        gc.enable()
        sys.setswitchinterval(SWITCH_S)
        self._announce(before)
        if self._watch is not None:
            loop = asyncio.get_running_loop()
            self._watch.start(lambda: loop.call_soon_threadsafe(self._told.signal, signal.SIGHUP))
        while not self._told.to_end:
            await self._told.wait()
            if self._told.take_deploy() and await self._may_deploy():
                left = await self._leave()
                return 0 if self._told.to_end else left
        return await self._end()

    def _keep_from_children(self) -> None:
        """Keep everything of the server's from processes that tasks fork."""
        # The loop waits on this descriptor. A child that comes back to the loop ends there.
        wait_fd = getattr(asyncio.get_running_loop(), "_get_backend_id", int)()
        if wait_fd > 0:
            forks.keep(wait_fd)
        port = self._listener.socket.getsockname()[1]
        forks.in_child(lambda: close_all_at(port))

    def _accept(self) -> None:
        backlog = self._config.server.backlog
        self._acceptor = Acceptor(self._listener.socket, backlog, lambda: Connection(self._api.connections))

    async def _open(self, recovering: Recovering, before: Taken | None) -> LocalEngine | None:
        """Open the engine, off the loop if it reads a journal. None if a signal came first."""
        path = self._config.journal.file(os.environ)
        if path is None:
            return open_engine(self._config, REGISTRY, lambda _: None, before and before.carried)
        begun = said = time.monotonic()

        def progress(read: int) -> None:
            nonlocal said
            recovering.read = read
            if time.monotonic() - said > TICK_S:
                said = time.monotonic()
                log.info("recovering: %d jobs read", read)

        log.info("recovering from %s", path.absolute())
        engine = await self._told.unless_end(apart(lambda: open_engine(self._config, REGISTRY, progress)))
        if engine is None:
            log.info("ended while recovering")
        else:
            log.info("recovered %d jobs in %.2f s", recovering.read, time.monotonic() - begun)
        return engine

    async def _begin(self, engine: LocalEngine) -> bool:
        """Start the engine, with the lifespan of the tasks. False if a signal came first.

        Raises ConfigError if the lifespan raises.
        """
        begun = False

        async def begin() -> None:
            nonlocal begun
            await engine.start(_journal_failed)
            begun = True

        try:
            await self._told.unless_end(begin())
        except ConfigError:
            await engine.close()
            raise
        if self._told.to_end:
            log.info("ended while starting")
            if begun:
                await engine.stop()
            await engine.close()
        return not self._told.to_end

    async def _end(self) -> int:
        """Drain, and end everything."""
        self._notifier.stopping()
        engine, config = self._engine, self._config
        active = engine.counts().active
        text = "draining: %d jobs, up to %g s for those that have to finish. A second signal ends the server at once."
        log.info(text, active, config.drain_timeout)
        left = await engine.drain(config.drain_timeout)
        if active:
            # Clients that wait for one of the last jobs can still read how it ended.
            await asyncio.sleep(config.drain_linger)
        if engine.durability != "memory":
            log.info(
                "drained: %d jobs are left to the next start, %d of them still running", engine.counts().active, left
            )
            left = 0
        elif left:
            held = engine.counts().held
            if held:
                log.error("%d jobs of held tasks are lost", held)
            if left > held:
                log.error("drain_timeout is over: %d jobs are lost", left - held)
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
        """Check that the new program would start and no job is active. If not, go on as before."""
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
            log.error("not deployed, still serving as before: %s", fault)
            self._engine.resume()
            self._notifier.ready(f"serving {self._listener.url}{self._config.http.base}; not deployed: {fault}")
        return fault is None

    async def _wait_for_jobs(self) -> str | None:
        """Wait for jobs that have to finish before a deploy. Return the reason if some did not."""
        seconds = self._config.drain_timeout
        text = "deploying: %d jobs, up to %g s for those that have to finish"
        log.info(text, self._engine.counts().active, seconds)
        left = await self._engine.drain(seconds)
        if left and self._engine.durability == "memory":
            held = self._engine.counts().held
            if held:
                return f"{held} jobs of held tasks wait: end the holds with PATCH /tasks/{{name}}, or cancel the jobs"
            return f"{left} jobs did not finish within drain_timeout"
        # The new program begins again the jobs that still run.
        return None

    async def _leave(self) -> Left:
        """End everything but the socket and the rows, and return the handover."""
        connections = self._api.connections
        await self._engine.stop()
        await connections.wind_down(LAST_ANSWERS_S)
        await self._acceptor.stop()
        since = time.monotonic()
        await connections.wind_down(LATE_ANSWERS_S)
        await connections.close(LAST_BYTES_S)
        self._ticker.cancel()
        await self._engine.close()
        left = deploy.hand_over(self._listener, self._engine, since)
        log.info("executing the new program: %s", " ".join(self._program.command))
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
            log.info("deployed: no client was answered for %.2f s", time.monotonic() - before.since)
        url = self._listener.url + config.http.base
        if not check.is_loopback(self._listener.socket.getsockname()[0]):
            log.warning(check.beyond_loopback(url))
        durability = f"{self._engine.durability}: {SURVIVES[self._engine.durability]}"
        text = "serving %s with %d workers and %d tasks; durability %s"
        log.info(text, url, config.workers, len(REGISTRY.tasks), durability)
        self._notifier.ready(f"serving {url}")


def _journal_failed(line: str) -> NoReturn:
    log.critical("%s: the server ends, because it can keep nothing any more", line)
    signals.end(EXIT_JOURNAL)


def _raise_file_limit(connections: int) -> None:
    """Raise the soft limit of open files as far as needed. Log a warning if it stays too low."""
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
