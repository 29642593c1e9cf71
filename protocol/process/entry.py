"""From an accepted socket to a client: the header of the proxy, then TLS, each if the settings say so.

Both have the same time. A connection that ends meanwhile has not asked for anything, so nothing is
answered. It is counted. Of headers that do not count a line of the log tells, once a minute at most.
Of TLS none does, because scanners and clients without the CA come all the time.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack

from headway.protocol.process.proxy_header import BadProxyHeaderError, read_header
from headway.protocol.process.tls import Tls

log = logging.getLogger(__name__)

# Seconds between two lines about headers that do not count.
QUIET_S = 60.0
# Makes the protocol of a client with this address. None: the address of its socket.
MakeProtocol = Callable[[str | None], asyncio.Protocol]


class ProxyHeaders:
    """The headers of proxies. ``trusts``: whether the proxy at an address may name clients."""

    def __init__(self, trusts: Callable[[str], bool]) -> None:
        self._trusts = trusts
        # Connections that ended since the last line, the last one, and when the next line may come,
        # of time.monotonic.
        self._ended = 0
        self._last = ""
        self._quiet_until = 0.0

    async def read(self, client: socket.socket, timeout_s: float) -> str | None:
        """Return the address that the header names, None for that of the socket.

        Raises BadProxyHeaderError, and EOFError if the proxy only looked whether there is a server.
        """
        peer = client.getpeername()
        # That of a Unix socket is no tuple. The mode of its file says who may connect.
        if isinstance(peer, tuple) and not self._trusts(peer[0]):
            raise BadProxyHeaderError(f"{peer[0]} is not in http.trusted_proxies")
        try:
            async with asyncio.timeout(timeout_s):
                return await read_header(client)
        except TimeoutError:
            raise BadProxyHeaderError("it did not come within timeouts.head") from None

    def ended(self, error: BadProxyHeaderError) -> None:
        """A connection ended by ``error``."""
        self._ended += 1
        self._last = str(error)

    def tick(self) -> None:
        """A second has passed: say how many connections ended."""
        now = time.monotonic()
        if self._ended and now >= self._quiet_until:
            log.warning("no PROXY header that counts: %d connections ended. The last: %s", self._ended, self._last)
            self._ended = 0
            self._quiet_until = now + QUIET_S


class WayIn:
    """The way in. ``failed`` counts a connection that ended on it, by "proxy", "tls" or "room"."""

    def __init__(
        self,
        make: MakeProtocol,
        failed: Callable[[str], object],
        *,
        timeout_s: float,
        shutdown_s: float,
        headers: ProxyHeaders | None = None,
        tls: Tls | None = None,
    ) -> None:
        self._make = make
        self._failed = failed
        self._timeout_s = timeout_s
        # Seconds in which a client may take its last answers and answer the end of TLS.
        self._shutdown_s = shutdown_s
        self._headers = headers
        self._tls = tls

    @property
    def waits(self) -> bool:
        """Whether a client has to send something before it is in."""
        return self._headers is not None or self._tls is not None

    def tick(self) -> None:
        """A second has passed."""
        if self._headers is not None:
            self._headers.tick()
        if self._tls is not None:
            self._tls.tick()

    def gave_way(self) -> None:
        """A connection on its way in was ended, because others want in."""
        self._failed("room")

    async def enter(self, client: socket.socket) -> None:
        """Let ``client``, which does not block, in."""
        named = None
        if self._headers is not None:
            with ExitStack() as unless_in:
                unless_in.callback(client.close)
                try:
                    named = await self._headers.read(client, self._timeout_s)
                except BadProxyHeaderError as error:
                    self._headers.ended(error)
                    self._failed("proxy")
                    return
                except (OSError, EOFError):
                    return
                unless_in.pop_all()
        loop = asyncio.get_running_loop()
        if self._tls is None:
            await loop.connect_accepted_socket(lambda: self._make(named), client)
            return
        try:
            await loop.connect_accepted_socket(
                lambda: self._make(named),
                client,
                ssl=self._tls.context,
                ssl_handshake_timeout=self._timeout_s,
                ssl_shutdown_timeout=self._shutdown_s,
            )
        except OSError as error:
            # It does not speak TLS, it left, or its time is over.
            log.debug("no TLS with a client: %s", error)
            self._failed("tls")
