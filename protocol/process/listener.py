"""The socket that the server listens on: passed by systemd, or its own."""

from __future__ import annotations

import contextlib
import logging
import os
import resource
import socket
import stat
from typing import NamedTuple

from headway.core.config import Config
from headway.core.errors import ConfigError

log = logging.getLogger(__name__)

# Most descriptors to look at if the system does not list them.
FILES_MOST = 1 << 16


class Listener(NamedTuple):
    """A bound socket. ``passed``: systemd has passed it, so it may have any address."""

    socket: socket.socket
    passed: bool

    @property
    def url(self) -> str:
        """Return the URL at which it is reached."""
        host, port = self.socket.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def open_listener(config: Config, passed: socket.socket | None) -> Listener:
    """Return ``passed``, on which systemd listens for us, or else a socket of our own.

    Raises ConfigError if none can be had.
    """
    return Listener(_bound(config) if passed is None else passed, passed is not None)


def warn_of_port(listener: Listener, config: Config) -> None:
    """Log a warning if the previous program's ``listener`` is not on the port in ``config``."""
    bound = listener.socket.getsockname()[:2]
    if not listener.passed and config.server.port not in (0, bound[1]):
        text = "server.port is %d now, but a deploy keeps its socket: restart the server to leave %s"
        log.warning(text, config.server.port, listener.url)


def close_all_at(port: int) -> None:
    """Close this process's sockets at ``port``: in a forked child, its copies of ours.

    It looks at all descriptors. So it finds a socket that was accepted a moment ago, or is about to
    be closed.
    """
    try:
        names = os.listdir("/dev/fd")
    except OSError:
        names = list(map(str, range(3, min(resource.getrlimit(resource.RLIMIT_NOFILE)[0], FILES_MOST))))
    for fd in map(int, names):
        with contextlib.suppress(OSError):
            if stat.S_ISSOCK(os.fstat(fd).st_mode):
                _close_at(port, socket.socket(fileno=fd))


def _close_at(port: int, found: socket.socket) -> None:
    """Close ``found`` if it is a TCP socket at ``port``, else leave it alone."""
    try:
        tcp = found.family in (socket.AF_INET, socket.AF_INET6) and found.type == socket.SOCK_STREAM
        if tcp and found.getsockname()[1] == port:
            found.close()
    finally:
        if found.fileno() >= 0:
            found.detach()


def _bound(config: Config) -> socket.socket:
    host, port = config.server.host, config.server.port
    where = f"server.host {host!r}, server.port {port}"
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        bound = socket.socket(family, socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"cannot listen on {where}: {getattr(error, 'strerror', None) or error}") from None
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        bound.close()
        raise ConfigError(f"cannot listen on {where}: {error.strerror or error}") from None
    return bound
