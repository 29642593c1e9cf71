"""The process of a node: logs, signals, settings and socket, then its work, then its end.

``run`` is for a node that clients reach over HTTP, ``work`` for one that only runs jobs.
"""

from __future__ import annotations

import gc
import logging
import os
from collections.abc import Callable
from socket import socket
from typing import NoReturn

from headway.core.config import DEFAULT_JOURNAL, Config
from headway.core.config_sources import ignored
from headway.core.errors import ConfigError, JournalError
from headway.protocol import check, gateway, supervisor
from headway.protocol.engine_front import EngineFront
from headway.protocol.front import Front, HttpFront, NoFront
from headway.protocol.node import NodeLife
from headway.protocol.process import deploy, logs, parts, signals, systemd
from headway.protocol.process.deploy import Left, Program, Taken
from headway.protocol.process.listener import open_listener, warn_of_place
from headway.protocol.process.loop import run_to_its_end
from headway.protocol.process.parts import ServerPart
from headway.protocol.process.reload import Watch
from headway.protocol.process.signals import Signals
from headway.protocol.process.systemd import Notifier

log = logging.getLogger(__name__)

EXIT_NOT_EXECUTED = 1


def run(config: Config, remark: str | None = None, watch: Watch | None = None) -> NoReturn:
    """Serve until a signal, then end the process. Log ``remark`` about the settings first.

    With ``watch`` deploy after each change of the program.

    Raises ConfigError if ``config`` is unusable.
    """
    part = parts.take(os.environ)
    if part is None and config.server.gateways and not deploy.has_handover(os.environ):
        check.can_have_gateways(config)
        supervisor.supervise(config)
    if part is not None and part.what == "gateway":
        gateway.run(config, part)
    if part is not None:
        of_engine = part
        _run(config, lambda config, _before, _passed: EngineFront(config, of_engine), remark, watch, part)
    _run(config, _http_front, remark, watch)


def work(config: Config, remark: str | None = None, watch: Watch | None = None) -> NoReturn:
    """Run jobs of a queue that nodes share, without HTTP, as ``run`` does. Raises ConfigError if none is shared."""
    check.shared(config)
    _run(config, lambda _config, _before, _passed: NoFront(), remark, watch)


def _http_front(config: Config, before: Taken | None, passed: socket | None) -> Front:
    """Return a front on the socket of the previous program, of systemd, or of its own."""
    check.can_serve(config)
    if before is None or before.listener is None:
        return HttpFront(config, open_listener(config, passed))
    if config.server.gateways:
        text = "server.gateways is %s now, but a deploy keeps one process: restart the server"
        log.warning(text, config.server.gateways)
    if not before.listener.passed:
        warn_of_place(before.listener.host, before.listener.place, config)
    return HttpFront(config, before.listener)


def _run(
    config: Config,
    front: Callable[[Config, Taken | None, socket | None], Front],
    remark: str | None,
    watch: Watch | None,
    part: ServerPart | None = None,
) -> NoReturn:
    # Until the node works, nearly all objects that are made stay. Without the collector a
    # journal is read in a tenth less time.
    gc.disable()
    logs.set_up(config.log)
    if remark:
        log.warning(remark)
    if others := ignored(os.environ):
        log.debug("variables ignored, because they are no settings: %s", ", ".join(others))
    came, notifier = Signals(), Notifier(os.environ)
    # Before any code of a task runs: it must not see anything that was passed.
    before, passed = deploy.take_over(os.environ), systemd.activated(os.environ)
    if part is not None and part.left_fd >= 0:
        before = deploy.take_left(part.rows_fd, part.left_fd)
    if before is not None or (part is not None and part.follows):
        came.listen_early()
    if deploy.goes_on_in_memory(config, before):
        log.warning(
            "journal.path is %s by default, but jobs stay in memory as before, until the next restart", DEFAULT_JOURNAL
        )
        config = deploy.in_memory(config)
    program = Program(config)
    check.usable(config)
    shown = front(config, before, passed)
    program.front = shown.stays
    node = NodeLife(config, shown, program, came, notifier, watch=watch)
    try:
        ended = run_to_its_end(node.work(before))
    except ConfigError:
        _close(shown)
        raise
    except JournalError:
        shown.ends()
        raise
    if isinstance(ended, int):
        _close(shown)
        shown.ends()
        # The loop has ended, and with it its handlers of a second signal.
        came.listen_early()
        leave(ended)
    left = ended
    came.note()
    own = {} if part is None else part.hand_on()
    signals.leave(lambda: _execute(program, left, os.environ | notifier.environment | own, came))


def leave(code: int) -> NoReturn:
    """End the process, after the handlers that task modules have registered with atexit."""
    signals.leave(lambda: signals.end(code))


def _close(front: Front) -> None:
    """Close the socket, and remove its file, if it has not been done."""
    if front.listener is not None:
        front.listener.close()


def _execute(program: Program, left: Left, environment: dict[str, str], came: Signals) -> NoReturn:
    signals.flush()
    came.pass_on()
    try:
        program.execute(left, environment)
    except OSError as error:
        log.error("cannot execute the new program: %s", error)
        signals.end(EXIT_NOT_EXECUTED)
