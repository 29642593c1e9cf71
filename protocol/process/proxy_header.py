"""The header of the PROXY protocol, version 2: a proxy for TCP names the client, before TLS and HTTP.

https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt, section 2.2: a signature, a byte of
version and command, a byte of family and protocol, two bytes of length, then the addresses, and
further fields of any kind (TLV), which nobody here reads. The bytes after it belong to the client,
so none of them is read here.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from ipaddress import IPv4Address, IPv6Address

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
# Signature, version and command, family and protocol, length of the rest.
_FIXED = struct.Struct("!12sBBH")
_LOCAL, _PROXY = 0x20, 0x21
# Family and protocol.
_UNSPECIFIED, _TCP4, _TCP6, _UNIX = 0x00, 0x11, 0x21, 0x31
# The bytes of both addresses and ports, by family.
_ADDRESSES = {_UNSPECIFIED: 0, _TCP4: 12, _TCP6: 36, _UNIX: 216}
# Such a client has no address. It is nobody's proxy.
UNKNOWN = "unknown"


class BadProxyHeaderError(Exception):
    """The connection does not begin with a header that counts."""


async def read_header(client: socket.socket) -> str | None:
    """Read the header. Return the address of the client, or None if the proxy speaks for itself.

    Raises BadProxyHeaderError, and EOFError if the connection ended without a byte.
    """
    head = await _up_to(client, _FIXED.size)
    if not head:
        raise EOFError
    length = length_of(head)
    rest = await _up_to(client, length)
    if len(rest) < length:
        raise BadProxyHeaderError("a header without its end")
    return client_of(head, rest)


def length_of(head: bytes) -> int:
    """Return how many bytes follow the first 16 of a header. Raises BadProxyHeaderError."""
    if head.startswith(b"PROXY "):
        raise BadProxyHeaderError("version 1 of the header: have the proxy send version 2")
    if not head.startswith(SIGNATURE) or len(head) < _FIXED.size:
        raise BadProxyHeaderError("no header")
    _signature, command, _family, length = _FIXED.unpack(head)
    if command not in (_LOCAL, _PROXY):
        raise BadProxyHeaderError(f"a header with version and command 0x{command:02x}")
    return int(length)


def client_of(head: bytes, rest: bytes) -> str | None:
    """Return the address of the client in a header that ``length_of`` has seen, as ``read_header`` does."""
    command, family = head[12], head[13]
    if command == _LOCAL:
        return None
    if family not in _ADDRESSES:
        raise BadProxyHeaderError(f"a header with family and protocol 0x{family:02x}")
    if len(rest) < _ADDRESSES[family]:
        raise BadProxyHeaderError(f"a header that is too short for its addresses: {len(rest)} bytes")
    if family == _TCP4:
        return str(IPv4Address(rest[:4]))
    if family == _TCP6:
        address = IPv6Address(rest[:16])
        return str(address.ipv4_mapped or address)
    return UNKNOWN


async def _up_to(client: socket.socket, length: int) -> bytes:
    """Read ``length`` bytes, or fewer if the connection ends before."""
    loop = asyncio.get_running_loop()
    data = b""
    while len(data) < length and (piece := await loop.sock_recv(client, length - len(data))):
        data += piece
    return data
