"""The way to a host of a store: a socket, with TLS or without."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

from headway.core.errors import ConfigError
from headway.core.link.address import Address, Host, host_text
from headway.core.link.reply_error import ReplyError
from headway.core.link.wire import Waiting, Wire, WireOwner, pack

# A connection, with the first words on it, is made in so many seconds or not at all.
CONNECT_S = 3.0
HELLO = ("HELLO", "3")


class Dial:
    """Makes connections with the hosts of ``address``."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._tls: ssl.SSLContext | None = None

    async def wire(self, owner: WireOwner, host: Host | None) -> Wire:
        """Connect with ``host``, or with the socket. Raises OSError, and ConfigError where TLS fails."""
        loop = asyncio.get_running_loop()
        if host is None:
            _, wire = await loop.create_unix_connection(lambda: Wire(owner), self.address.path)
            return wire
        shown = f"{self.address.at(host)}"
        try:
            tls = self._context() if self.address.tls else None
            _, wire = await loop.create_connection(lambda: Wire(owner), *host, ssl=tls)
        except ssl.SSLError as error:
            # The files may be new ones by the next try.
            self._tls = None
            raise _meaning(error, shown) from None
        return wire

    async def ask(self, host: Host, *words: str) -> Any:
        """Return the reply to one command, on a connection of its own. Raises OSError, StoreError or ConfigError."""
        async with asyncio.timeout(CONNECT_S):
            wire = await self.wire(_Nobody(), host)
            try:
                await _said(wire, HELLO)
            except ReplyError as error:
                if error.code != "NOAUTH" or not self.address.password:
                    raise ConfigError(f"engine: {host_text(host)} refuses us: {error}") from None
                await _said(wire, (*HELLO, "AUTH", self.address.user or "default", self.address.password))
            try:
                return await _said(wire, words)
            finally:
                wire.close()

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            address = self.address
            try:
                self._tls = ssl.create_default_context(cafile=address.ca or None)
                if address.certificate:
                    self._tls.load_cert_chain(address.certificate, address.key)
            except OSError as error:
                files = ", ".join(filter(None, (address.ca, address.certificate, address.key)))
                raise ConfigError(f"engine: the certificates cannot be read ({files}): {error}") from None
        return self._tls


def without_tls(address: Address) -> str:
    """Return what else may be the cause if ``address`` does not answer in time."""
    return ", as a port without TLS does (valkey://)" if address.tls else ""


def _meaning(error: ssl.SSLError, shown: str) -> ConfigError:
    """Return what a failure of TLS says to a person."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return ConfigError(
            f"engine: the certificate of {shown} is refused: {error.verify_message}. "
            "Name the file of who signed it: ?ca=/path/ca.pem"
        )
    return ConfigError(f"engine: {shown} refuses TLS ({error.reason}). Without TLS it is valkey://")


async def _said(wire: Wire, words: tuple[str, ...]) -> Any:
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    wire.send(pack(words), future)
    try:
        return await future
    except BaseException as error:
        wire.drop(ConnectionError(str(error)))
        raise


class _Nobody:
    """Holds a connection that is asked once."""

    def wrote(self) -> None:
        """Nobody counts."""

    def pushed(self, push: list[Any]) -> None:
        """Nothing is pushed."""

    def refused(self, error: ReplyError, waiting: Waiting) -> bool:
        """Leave a refusal to the caller."""
        del error, waiting
        return False

    def lost(self, wire: Wire, error: Exception | None) -> None:
        """All calls have failed."""
