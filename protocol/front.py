"""The side of a process that clients see: its socket, and the HTTP API on it.

A node without HTTP has NoFront in its place, with which nobody connects.
"""

from __future__ import annotations

import logging
import os
import resource
import time
from typing import Protocol

import msgspec
from headway.core import forks
from headway.core.config import Config
from headway.core.counted import Counted
from headway.core.errors import ConfigError
from headway.core.interface import Engine
from headway.protocol import check
from headway.protocol.access.token_file import FIRST, TokenFile
from headway.protocol.api.app import Api
from headway.protocol.api.service import Shared
from headway.protocol.http.connection import Connection
from headway.protocol.http.connections import LINGERING_MOST
from headway.protocol.process import deploy
from headway.protocol.process.acceptor import ENTERING_LEAST, Acceptor
from headway.protocol.process.entry import ProxyHeaders, WayIn
from headway.protocol.process.listener import Listener, close_all_at
from headway.protocol.process.tls import tls_of

log = logging.getLogger(__name__)

# Files that a server needs besides its clients' connections. Those that linger beside a full house,
# and those that are on their way in, are among them.
SPARE_FILES = 64 + LINGERING_MOST + ENTERING_LEAST
# Seconds before a deploy. First, connected clients get an answer that says that it is the last.
# Then nobody is let in any more, and clients that came at the last moment get theirs. Then the last
# bytes leave.
LAST_ANSWERS_S = 0.5
LATE_ANSWERS_S = 0.1
LAST_BYTES_S = 0.05


class Front(Protocol):
    """The side of a node that clients see."""

    # What the node does, for people.
    doing: str
    # Seconds for which clients can still read how the last jobs ended.
    linger_s: float
    # Whether clients wait while a deploy goes on, and are not sent away.
    keeps_clients: bool
    # By how many gateways clients come, 0 if they come here.
    gateways: int

    @property
    def listener(self) -> Listener | None:
        """The socket, which a deploy hands over; None if there is none."""

    def open(self, engine: Engine) -> None:
        """Make all that needs a loop, over an engine that may stand in for another."""

    def accept(self) -> None:
        """Let clients in."""

    def use(self, engine: Engine) -> None:
        """Ask ``engine`` from now on."""

    def stays(self) -> dict[str, str]:
        """Return what a deploy does not change, as variables for its check."""

    def tick(self) -> None:
        """A second has passed."""

    def warn(self) -> None:
        """Warn of clients that may come unwanted."""

    async def leave(self) -> float:
        """Give the last answers before a deploy. Return since when no client gets one, of time.monotonic."""

    def ends(self) -> None:
        """Tell that the node is about to end for good."""

    async def close(self) -> None:
        """Let no client in, and end all connections."""


class HttpFront:
    """A socket with the HTTP API on it. That of a gateway has more, ``shared`` with others."""

    keeps_clients = False
    gateways = 0

    def __init__(self, config: Config, listener: Listener, shared: Shared | None = None) -> None:
        self._shared = shared
        self._config = _within_files(config)
        self.listener = listener
        self.url = listener.url(config.server.scheme) + config.http.base
        self.doing = f"serving {self.url}"
        self.linger_s = config.drain_linger
        try:
            if config.auth.first_token and config.auth.mode == "tokens":
                make_first_token(config)
            check.closed(config, listener.host)
        except ConfigError:
            listener.close()
            raise
        self._tls = tls_of(config.server.tls)

    def open(self, engine: Engine) -> None:
        """Make the API over ``engine``."""
        place = self.listener.place
        forks.in_child(lambda: close_all_at(place))
        self._api = Api(self._config, engine, self._shared)
        connections, config = self._api.connections, self._config
        self._entry = WayIn(
            lambda named: Connection(connections, named),
            connections.not_entered,
            timeout_s=config.timeouts.head,
            shutdown_s=config.timeouts.write,
            headers=ProxyHeaders(self._api.service.clients.trusts) if config.server.proxy_protocol else None,
            tls=self._tls,
        )

    def accept(self) -> None:
        """Let clients in."""
        most, is_open = self._config.limits.connections, self._api.connections.open
        backlog = self._config.server.backlog
        connections = self._api.connections
        self._acceptor = Acceptor(
            self.listener.socket,
            backlog,
            self._entry,
            room=lambda: most - len(is_open),
            make_place=connections.make_place,
        )

    @property
    def counted(self) -> Counted:
        """What was counted of clients here."""
        return self._api.service.counted()

    def use(self, engine: Engine) -> None:
        """Ask ``engine`` from now on."""
        self._api.service.use(engine)

    def stays(self) -> dict[str, str]:
        """Return what a deploy does not change, as variables for its check."""
        asks = self._api.service.guard.asks
        return {deploy.HOST_VARIABLE: self.listener.host or "", deploy.ASKS_VARIABLE: "1" if asks else ""}

    def tick(self) -> None:
        """A second has passed."""
        self._api.connections.tick()
        self._entry.tick()

    def warn(self) -> None:
        """Log what ``check.exposures`` finds."""
        for line in check.exposures(self._config, self.listener.host, self.url):
            log.warning(line)

    async def leave(self) -> float:
        """Give the last answers before a deploy. Return since when no client gets one."""
        connections = self._api.connections
        await connections.wind_down(LAST_ANSWERS_S)
        await self._acceptor.stop()
        since = time.monotonic()
        await connections.wind_down(LATE_ANSWERS_S)
        await connections.close(LAST_BYTES_S)
        return since

    def ends(self) -> None:
        """Do nothing: nobody else is to be told."""

    async def close(self) -> None:
        """Let no client in, and end all connections."""
        await self._acceptor.stop()
        self.listener.close()
        await self._api.connections.close()


class NoFront:
    """No socket: the front of a node that only runs jobs."""

    listener = None
    doing = "running jobs"
    linger_s = 0.0
    keeps_clients = False
    gateways = 0

    def open(self, engine: Engine) -> None:
        """Do nothing, as below."""

    def accept(self) -> None:
        """Nobody comes."""

    def use(self, engine: Engine) -> None:
        """Nobody asks."""

    def stays(self) -> dict[str, str]:
        """Return nothing: there is no socket."""
        return {}

    def tick(self) -> None:
        """Nobody waits."""

    def warn(self) -> None:
        """Nobody can come unwanted."""

    async def leave(self) -> float:
        """Nobody gets an answer."""
        return time.monotonic()

    def ends(self) -> None:
        """Nobody is to be told."""

    async def close(self) -> None:
        """Nobody is connected."""


def make_first_token(config: Config) -> None:
    """Make a token with all scopes if there is none, and log it: nothing else tells it. Raises ConfigError."""
    secret = TokenFile(config.auth.file(os.environ)).add_first()
    if secret is not None:
        log.warning(
            "made the first token, with all scopes and shown this once. Replace it by tokens with fewer, by "
            "headway token add NAME --scope SCOPE and headway token remove %s: %s",
            FIRST,
            secret,
        )


def _within_files(config: Config) -> Config:
    """Raise the soft limit of open files as far as needed. Return ``config`` with the connections that it allows.

    A client over ``limits.connections`` is answered 503. One for which there is no file has to wait.
    """
    connections = config.limits.connections
    needed = connections + SPARE_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= needed:
        return config
    files = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
    except (OSError, ValueError):
        files = soft
    if files >= needed:
        return config
    most = max(files - SPARE_FILES, files // 2)
    log.warning(
        "limits.connections is %d, but this process may open %d files: raise it with ulimit -n. "
        "Until then it serves %d connections.",
        connections,
        files,
        most,
    )
    return msgspec.structs.replace(config, limits=msgspec.structs.replace(config.limits, connections=most))
