"""The client that a request counts for: its address, or the one that a trusted proxy names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from headway.core.errors import ConfigError
from headway.protocol.http.request import UNIX_PEER, Request

IpAddress = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# The bits before an IPv4 address that is mapped to IPv6.
_MAPPED_BITS = 96
# An IPv6 address in brackets, or an IPv4 address, with a port or without (RFC 7239, 6).
_NODE = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+))(?::\d+)?")
# An element of Forwarded (RFC 7239, 4), and a pair of it.
_TEXT = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PAIR = rf'({_TEXT})=({_TEXT}|"(?:[^"\\]|\\.)*")'
_SPACED = rf"[ \t]*(?:{_PAIR}[ \t]*)?"
_ELEMENT = re.compile(rf"{_SPACED}(?:;{_SPACED})*")
_ONE_PAIR = re.compile(_PAIR)


# The header fields in which proxies name clients.
NAMING = (b"forwarded", b"x-forwarded-for")


class Clients:
    """Tells clients apart. Proxies in the networks ``trusted`` write the header ``header``."""

    def __init__(self, trusted: tuple[str, ...], header: str) -> None:
        self._trusted = [_network(network) for network in trusted if network != UNIX_PEER]
        self._trusts_unix = UNIX_PEER in trusted
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

    def is_near(self, request: Request) -> bool:
        """Whether the client of a request is on this machine, as far as can be known.

        Its connection comes from here, and no proxy names a client, by HTTP or before it. A proxy may hide who
        that is, and its own loopback is not ours.
        """
        if request.peer_is_named or any(name in request.headers for name in NAMING):
            return False
        address = _address(request.peer)
        return request.peer == UNIX_PEER if address is None else address.is_loopback

    def _client(self, peer: str, headers: dict[bytes, bytes]) -> IpAddress | None:
        address = _address(peer)
        if self.trusts(peer) and self._header in headers:
            # Each proxy appends its peer. Stop at the first untrusted address: a client can forge
            # the rest.
            for before in self._named(headers[self._header].decode("latin-1")):
                if before is None:
                    break
                address = before
                if not self._is_trusted(address):
                    break
        return address

    def trusts(self, peer: str) -> bool:
        """Whether the peer at an address may name the client."""
        if peer == UNIX_PEER:
            return self._trusts_unix
        address = _address(peer)
        return address is not None and self._is_trusted(address)

    def key_of_peer(self, peer: str) -> bytes:
        """Return the key of ``peer`` itself, empty for a trusted proxy or a Unix socket."""
        address = _address(peer)
        return b"" if address is None or self._is_trusted(address) else address.packed[:8]

    def _is_trusted(self, address: IpAddress) -> bool:
        return any(address in network for network in self._trusted)

    def _named(self, value: str) -> Iterator[IpAddress | None]:
        """Yield the addresses that a header names, the last first, and None for anything else."""
        if self._header == b"forwarded":
            yield from map(_address_for, _elements(value))
        else:
            yield from (_address(item.strip(" \t")) for item in reversed(value.split(",")))


def _elements(value: str) -> Iterator[str]:
    """Yield the elements of Forwarded, the last first, up to one that is not well formed.

    An element begins after the last comma from which on all is well formed. A comma within quotes
    is none of them, since the text after it has half a pair of quotes. So a client that sends an
    open quote, or a Host with a comma, changes no element that a proxy appends.
    """
    end = begin = len(value)
    while begin > 0:
        begin = value.rfind(",", 0, begin) + 1
        if _ELEMENT.fullmatch(value, begin, end):
            yield value[begin:end]
            end = begin - 1
        begin -= 1


def _address_for(element: str) -> IpAddress | None:
    """Return the address of ``for`` in an element, None if there is none, or more than one."""
    found = [value for name, value in _ONE_PAIR.findall(element) if name.lower() == "for"]
    return _address(found[0].strip('"')) if len(found) == 1 else None


def _network(text: str) -> Network:
    try:
        network = ip_network(text)
    except ValueError as error:
        raise ConfigError(
            f"http.trusted_proxies: {error}; expected networks such as 10.0.0.0/8, or {UNIX_PEER} for server.socket"
        ) from None
    mapped = network.network_address.ipv4_mapped if isinstance(network, IPv6Network) else None
    if mapped is not None and network.prefixlen >= _MAPPED_BITS:
        # Addresses are compared as those of IPv4, too.
        return IPv4Network((mapped, network.prefixlen - _MAPPED_BITS))
    return network


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
