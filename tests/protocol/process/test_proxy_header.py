"""The header of the PROXY protocol: which are taken, which end the connection, and whom they name."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import socket
import ssl
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from headway.core.config import Config, HttpSection, ServerSection
from headway.core.errors import ConfigError
from headway.protocol import check
from headway.protocol.process.proxy_header import SIGNATURE, BadProxyHeaderError, client_of, length_of, read_header
from hypothesis import given
from hypothesis import strategies as st

from tests.certificates import Authority
from tests.conftest import Start
from tests.end_to_end.process import Server, launch
from tests.protocol.wire import PATIENCE_S, Wire, request
from tests.valkey_servers import free_port

HEALTH = request("GET", "/healthz")
LOCAL, PROXY = 0x20, 0x21
TCP4, TCP6, UDP4, UNIX = 0x11, 0x21, 0x12, 0x31
# Further fields: an authority, and one of no known type.
FIELDS = b"\x02\x00\x04host" + b"\xee\x00\x00"


def header(addresses: bytes, *, family: int = TCP4, command: int = PROXY, more: bytes = b"") -> bytes:
    return SIGNATURE + struct.pack("!BBH", command, family, len(addresses + more)) + addresses + more


def tcp4(client: str, more: bytes = b"") -> bytes:
    ports = struct.pack("!HH", 40_000, 8080)
    return header(socket.inet_aton(client) + socket.inet_aton("192.0.2.99") + ports, more=more)


def tcp6(client: str) -> bytes:
    addresses = socket.inet_pton(socket.AF_INET6, client) + socket.inet_pton(socket.AF_INET6, "2001:db8::99")
    return header(addresses + struct.pack("!HH", 40_000, 8080), family=TCP6)


def read(data: bytes) -> str | None:
    """Return the client that a header names, with all that is not of it left in the socket."""
    sender, receiver = socket.socketpair()
    with sender, receiver:
        receiver.setblocking(False)
        sender.sendall(data + b"rest")
        found = asyncio.run(read_header(receiver))
        assert receiver.recv(100) == b"rest"
    return found


GOOD = [
    (tcp4("192.0.2.7"), "192.0.2.7"),
    (tcp4("192.0.2.7", FIELDS), "192.0.2.7"),
    (tcp4("192.0.2.7", bytes(60_000)), "192.0.2.7"),
    (tcp6("2001:db8::7"), "2001:db8::7"),
    (tcp6("::ffff:192.0.2.7"), "192.0.2.7"),
    (header(b"/run/client".ljust(108, b"\0") + bytes(108), family=UNIX), "unknown"),
    (header(b"", family=0), "unknown"),
    (header(b"", family=0, more=FIELDS), "unknown"),
    # The proxy asks for itself, whatever the rest says.
    (header(b"", family=0, command=LOCAL), None),
    (header(b"anything", family=UDP4, command=LOCAL, more=FIELDS), None),
]
BAD = [
    (b"PROXY TCP4 192.0.2.7 192.0.2.9 40000 8080\r\n", "version 1 of the header: have the proxy send version 2"),
    (HEALTH, "no header"),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03abcdef", "no header"),
    (SIGNATURE[:-1] + b"X" + bytes(4), "no header"),
    (header(b"", family=0, command=0x22), "a header with version and command 0x22"),
    (header(b"", family=0, command=0x11), "a header with version and command 0x11"),
    (header(bytes(12), family=UDP4), "a header with family and protocol 0x12"),
    (header(bytes(12), family=0x41), "a header with family and protocol 0x41"),
    (header(bytes(11)), "a header that is too short for its addresses: 11 bytes"),
    (header(bytes(35), family=TCP6), "a header that is too short for its addresses: 35 bytes"),
    (header(bytes(215), family=UNIX), "a header that is too short for its addresses: 215 bytes"),
]


@pytest.mark.parametrize(("data", "client"), GOOD, ids=range(len(GOOD)))
def test_good_headers(data: bytes, client: str | None) -> None:
    assert read(data) == client


@pytest.mark.parametrize(("data", "fault"), BAD, ids=range(len(BAD)))
def test_bad_headers(data: bytes, fault: str) -> None:
    with pytest.raises(BadProxyHeaderError) as raised:
        read(data)
    assert str(raised.value) == fault


@pytest.mark.parametrize("length", [1, 15, 16, 27])
def test_a_header_without_its_end(length: int) -> None:
    sender, receiver = socket.socketpair()
    with receiver:
        receiver.setblocking(False)
        sender.sendall(tcp4("192.0.2.7")[:length])
        sender.close()
        with pytest.raises(BadProxyHeaderError):
            asyncio.run(read_header(receiver))


@given(st.binary(min_size=4, max_size=4), st.binary(max_size=300))
def test_nothing_else_is_raised(fixed: bytes, rest: bytes) -> None:
    try:
        length = length_of(SIGNATURE + fixed)
        client = client_of(SIGNATURE + fixed, rest[:length])
    except BadProxyHeaderError:
        return
    assert length == int.from_bytes(fixed[2:], "big")
    assert fixed[0] in (LOCAL, PROXY)
    assert (client is None) == (fixed[0] == LOCAL)


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server behind a proxy that names clients."""
    settings = {
        "server__proxy_protocol": True,
        "http__trusted_proxies": ["127.0.0.0/8"],
        "log__access": True,
        "rates__polls": 2,
        "rates__polls_window": 600,
        "timeouts__head": 1,
    }
    with launch(tmp_path_factory.mktemp("behind"), settings) as server:
        yield server


def told(server: Server, data: bytes, target: str) -> str:
    """Send a header and ask for a target; return the client that the access log has."""
    with Wire(server.port) as wire:
        wire.send(data)
        wire.ask(request("GET", target))
    return server.wait_for_line(re.escape(f"GET {target}")).partition('"message":"')[2].partition(" ")[0]


@pytest.mark.parametrize(
    ("data", "client"),
    [
        (tcp4("192.0.2.7"), "192.0.2.7"),
        (tcp6("2001:db8::7"), "2001:db8::7"),
        (header(b"", family=0), "unknown"),
        (header(b"", family=0, command=LOCAL), "127.0.0.1"),
    ],
    ids=["tcp4", "tcp6", "unspecified", "local"],
)
def test_the_log_has_the_client(behind: Server, data: bytes, client: str) -> None:
    assert told(behind, data, f"/nowhere/{client}") == client


def test_rates_are_of_the_client(behind: Server) -> None:
    def codes(data: bytes, *lines: str) -> list[int]:
        with Wire(behind.port) as wire:
            wire.send(data)
            return [wire.ask(request("GET", "/stats", *lines)).status for _ in range(3)]

    for data in (tcp4("198.51.100.1"), tcp4("198.51.100.2"), tcp6("2001:db8:1::1")):
        assert codes(data) == [200, 200, 429]
    # The /64 of before.
    assert codes(tcp6("2001:db8:1::2")) == [429] * 3
    # A client is no proxy, and one without an address is none either.
    assert codes(tcp4("198.51.100.1"), "X-Forwarded-For: 203.0.113.1") == [429] * 3
    assert codes(header(b"", family=0), "X-Forwarded-For: 203.0.113.2")[2] == 429
    assert codes(header(b"", family=0), "X-Forwarded-For: 203.0.113.3") == [429] * 3
    # A proxy for HTTP behind the one for TCP names its own client, as without the header.
    assert codes(tcp4("127.0.0.9"), "X-Forwarded-For: 203.0.113.1") == [200, 200, 429]


def test_bad_and_missing_headers_end_the_connection_with_one_line(start: Start) -> None:
    server = start(
        server__proxy_protocol=True, http__trusted_proxies=["127.0.0.0/8"], timeouts__head=0.3, limits__connections=64
    )
    attempts = [data for data, _ in BAD] + [tcp4("192.0.2.7")[:20], b""]
    for data in attempts:
        begin = time.monotonic()
        with Wire(server.port) as wire:
            wire.send(data)
            with pytest.raises((OSError, AssertionError)):
                # A reset, if it had sent more than was read.
                assert wire.socket.recv(1)
        assert time.monotonic() - begin < PATIENCE_S
    # Looks whether there is a server, and is not counted.
    with Wire(server.port):
        pass
    with Wire(server.port) as wire:
        # By the byte, and with the request in the same segment as the last one.
        for byte in tcp4("192.0.2.7", FIELDS)[:-1]:
            wire.send(bytes([byte]))
        wire.send(b"\0" + request("GET", "/metrics"))
        metrics = wire.read().body.decode()
    assert f'headway_entries_failed_total{{step="proxy"}} {len(attempts)}.0' in metrics
    server.wait_for_line("no PROXY header that counts: [0-9]+ connections ended. The last: ")
    assert sum("PROXY" in line for line in server.said) == 1


@pytest.mark.parametrize("client", ["127.0.0.1", "192.0.2.7", None])
def test_a_client_that_is_named_is_of_another_machine(start: Start, client: str | None) -> None:
    """Also one on the proxy's own loopback. The proxy itself, which is here, is not."""
    server = start(server__proxy_protocol=True, http__trusted_proxies=["127.0.0.0/8"])
    with Wire(server.port) as wire:
        wire.send(header(b"", family=0, command=LOCAL) if client is None else tcp4(client))
        assert wire.ask(request("GET", "/jobs")).status == (200 if client is None else 403)


def test_a_peer_that_is_not_trusted_is_refused(start: Start) -> None:
    server = start(server__proxy_protocol=True, http__trusted_proxies=["192.0.2.0/24"])
    with Wire(server.port) as wire:
        wire.send(tcp4("192.0.2.7"))
        with pytest.raises((OSError, AssertionError)):
            assert wire.socket.recv(1)
    server.wait_for_line("The last: 127.0.0.1 is not in http.trusted_proxies")


def test_it_comes_before_tls_and_over_a_unix_socket(start: Start, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    made, path = authority.sign("server"), tmp_path / "s"
    tls = {"certificate": str(made.certificate), "key": str(made.key)}
    server = start(server__proxy_protocol=True, server__socket=str(path), server__tls=tls, log__access=True)
    assert "serving https+unix://" in "".join(server.said)
    with socket.socket(socket.AF_UNIX) as plain:
        plain.settimeout(PATIENCE_S)
        plain.connect(str(path))
        plain.sendall(tcp4("192.0.2.7", FIELDS))
        with authority.context().wrap_socket(plain, server_hostname="localhost") as encrypted:
            assert isinstance(encrypted, ssl.SSLSocket)
            assert Wire.over(encrypted).still_serves()
    server.wait_for_line("192.0.2.7 .*GET /healthz")


HAPROXY = shutil.which("haproxy", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
BALANCER = """
defaults
    mode tcp
    timeout connect 5s
    timeout client 30s
    timeout server 30s
frontend clients
    bind 127.0.0.1:{port}
    default_backend headway
backend headway
    option httpchk GET /readyz
    server headway 127.0.0.1:{server} source 127.0.0.1 send-proxy-v2 proxy-v2-options unique-id,crc32c check inter 100ms
"""


@pytest.mark.long
@pytest.mark.skipif(HAPROXY is None, reason="haproxy is not installed")
def test_haproxy(start: Start, tmp_path: Path) -> None:
    """It names clients, and comes itself to look at the health of the server."""
    assert HAPROXY is not None
    server = start(server__proxy_protocol=True, http__trusted_proxies=["127.0.0.1/32"], log__access=True)
    port = free_port()
    settings = tmp_path / "haproxy.cfg"
    settings.write_text(BALANCER.format(port=port, server=server.port))
    balancer = subprocess.Popen([HAPROXY, "-db", "-f", str(settings)], stdout=subprocess.DEVNULL)
    try:
        server.wait_for_line('"127.0.0.1 .*GET /readyz')
        # Linux has the whole of 127.0.0.0/8.
        with socket.create_connection(("127.0.0.1", port), PATIENCE_S, source_address=("127.0.0.5", 0)) as client:
            assert Wire.over(client).still_serves()
        server.wait_for_line('"127.0.0.5 .*GET /healthz')
    finally:
        balancer.terminate()
        balancer.wait(PATIENCE_S)
    assert not any("PROXY" in line for line in server.said)


def test_without_proxies_it_is_refused() -> None:
    config = Config(server=ServerSection(proxy_protocol=True))
    with pytest.raises(ConfigError, match=r"server\.proxy_protocol: nobody is trusted to send the header"):
        check.can_serve(config)
    check.can_serve(Config(server=ServerSection(proxy_protocol=True, socket="/run/s")))
    check.can_serve(
        Config(server=ServerSection(proxy_protocol=True), http=HttpSection(trusted_proxies=("10.0.0.0/8",)))
    )
