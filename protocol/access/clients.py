"""The client that a request counts for: its address, or the one that a trusted proxy names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from headway.core.errors import ConfigError

IpAddress = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# An IPv6 address in brackets, or an IPv4 address, with a port or without (RFC 7239, 6).
_NODE = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+))(?::\d+)?")
_FOR = re.compile(r'(?:^|;)\s*for="?([^;"\s]*)"?', re.IGNORECASE)


# The header fields in which proxies name clients.
NAMING = (b"forwarded", b"x-forwarded-for")


class Clients:
    """Tells clients apart. Proxies in the networks ``trusted`` write the header ``header``."""

    def __init__(self, trusted: tuple[str, ...], header: str) -> None:
        self._trusted = [_network(network) for network in trusted]
        self._header = header.encode()

    def key(self, peer: str, headers: dict[bytes, bytes]) -> bytes:
        """Return the key of the client at ``peer``: its IPv4 address, or the /64 of an IPv6 one."""
        address = self._client(peer, headers)
        # None: a Unix socket.
        return b"" if address is None else address.packed[:8]

    def address(self, peer: str, headers: dict[bytes, bytes]) -> str:
        """Return the address of the client at ``peer``, empty for one at a Unix socket."""
        address = self._client(peer, headers)
        return "" if address is None else str(address)

    def is_near(self, peer: str, headers: dict[bytes, bytes]) -> bool:
        """Whether the client at ``peer`` is on this machine, as far as can be known.

        A request that names another client came through a proxy. It is near only if the proxy is trusted and the
        client that it names is near.
        """
        address = self._client(peer, headers)
        if address is not None and not address.is_loopback:
            return False
        own = _address(peer)
        trusted = own is not None and self._is_trusted(own)
        return all(name not in headers for name in NAMING if not (trusted and name == self._header))

    def _client(self, peer: str, headers: dict[bytes, bytes]) -> IpAddress | None:
        address = _address(peer)
        if address is None:
            return None
        if self._trusted and self._is_trusted(address) and self._header in headers:
            # Each proxy appends its peer. Stop at the first untrusted address: a client can forge
            # the rest.
            for before in self._named(headers[self._header].decode("latin-1")):
                if before is None:
                    break
                address = before
                if not self._is_trusted(address):
                    break
        return address

    def _is_trusted(self, address: IpAddress) -> bool:
        return any(address in network for network in self._trusted)

    def _named(self, value: str) -> Iterator[IpAddress | None]:
        """Yield the addresses that a header names, the last first, and None for anything else."""
        for item in reversed(value.split(",")):
            if self._header == b"forwarded":
                found = _FOR.search(item.strip())
                yield _address(found[1]) if found else None
            else:
                yield _address(item.strip())


def _network(text: str) -> Network:
    try:
        return ip_network(text)
    except ValueError as error:
        raise ConfigError(f"http.trusted_proxies: {error}; expected networks such as 10.0.0.0/8") from None


@lru_cache(maxsize=1024)
def _address(text: str) -> IpAddress | None:
    node = _NODE.fullmatch(text)
    try:
        # An address of a link has its link after a percent sign.
        address = ip_address((node[1] or node[2]) if node else text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        # It came over IPv4 to a socket for both.
        return address.ipv4_mapped
    return address
