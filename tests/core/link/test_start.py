"""The first contact with a store: what will never do is refused in one line that says what to do."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import pytest
from headway.core.errors import ConfigError
from headway.core.link.address import Address
from headway.core.link.topology import Links

from tests.valkey_servers import HOST, StoreServer, redis_binary, replica_of, serving, tls_options

# Servers that die, part and come back take their time.
pytestmark = pytest.mark.long

Run = Callable[..., StoreServer]


@pytest.fixture(params=["valkey", "redis"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Run]:
    """Run a server with options of one's own, of Valkey and of Redis."""
    binary = redis_binary() if request.param == "redis" else ""
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(serving(tmp_path / "store", binary, **options))


async def refusal(url: str) -> str:
    """Start with a store; return why that is refused."""
    links = Links(Address.of(url), "test")
    with pytest.raises(ConfigError) as error:
        await links.start(patience_s=0.3)
    await links.close()
    text = str(error.value)
    assert "\n" not in text
    assert "secret" not in text
    return text


@asynccontextmanager
async def linked(url: str) -> AsyncIterator[Links]:
    links = Links(Address.of(url), "test")
    await links.start(patience_s=1)
    yield links
    await links.close()


async def test_a_password_is_asked_for(run: Run) -> None:
    server = run(requirepass="secret")
    assert "wants a password: valkey://user:password@" in await refusal(f"valkey://{HOST}:{server.port}")
    assert "refuses the user or the password" in await refusal(f"valkey://:secret2@{HOST}:{server.port}")
    async with linked(server.url) as links:
        assert links.is_up


async def test_a_user_has_rights(run: Run) -> None:
    """All that are not dangerous are enough, and a user without them is told so."""
    server = run()
    server.allow("node", "on >secret ~hw:* &hw:* +@all -@admin -@dangerous +info")
    server.allow("half", "on >secret ~hw:* &hw:* +@all -client")
    server.allow("other", "on >secret ~other:* &hw:* +@all")
    async with linked(f"valkey://node:secret@{HOST}:{server.port}") as links:
        assert links.durability == "process"
        await links.at(b"hw:x").call("SET", "hw:x", 1)
    half = await refusal(f"valkey://half:secret@{HOST}:{server.port}")
    assert "half" in half or "permissions" in half
    assert "docs/cluster.md has the ACL" in half
    assert "docs/cluster.md has the ACL" in await refusal(f"valkey://other:secret@{HOST}:{server.port}")


async def test_a_password_where_there_is_none(run: Run) -> None:
    """Any server takes the user ``default`` without a password, so the name decides."""
    server = run()
    assert "refuses the user or the password" in await refusal(f"valkey://me:secret@{HOST}:{server.port}")


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-lru"])
async def test_a_store_that_evicts_is_refused(run: Run, policy: str) -> None:
    server = run(maxmemory_policy=policy, maxmemory="100mb")
    said = await refusal(server.url)
    assert f"has maxmemory-policy {policy}" in said
    assert "CONFIG SET maxmemory-policy noeviction" in said
    # What it says mends it.
    server.ask("CONFIG", "SET", "maxmemory-policy", "noeviction")
    async with linked(server.url) as links:
        assert links.is_up


async def test_config_may_be_forbidden(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    """As managed services do: INFO tells the policy."""
    server = run(maxmemory_policy="volatile-lru")
    server.allow("default", "-config")
    assert "in the parameters of the service" in await refusal(server.url)
    server.allow("default", "+config")
    server.ask("CONFIG", "SET", "maxmemory-policy", "noeviction")
    server.allow("default", "-config")
    with caplog.at_level(logging.WARNING):
        async with linked(server.url) as links:
            assert links.durability == "process"
    assert "forbids CONFIG" in caplog.text


@pytest.mark.parametrize(
    ("options", "promise"),
    [
        ({}, "process"),
        ({"appendonly": "yes", "appendfsync": "everysec"}, "process"),
        ({"appendfsync": "always"}, "process"),
        ({"appendonly": "yes", "appendfsync": "always"}, "disk"),
    ],
)
async def test_a_store_promises_what_it_writes(run: Run, options: dict[str, str], promise: str) -> None:
    async with linked(run(**options).url) as links:
        assert links.durability == promise


async def test_a_replica_is_refused_and_its_primary_found(run: Run, tmp_path: Path) -> None:
    primary = run()
    with replica_of(primary, tmp_path / "replica") as replica:
        assert "is a read-only replica. Name its primary" in await refusal(replica.url)
        async with linked(f"valkey://{HOST}:{replica.port},{HOST}:{primary.port}") as links:
            assert await links.at(b"hw:x").call("SET", "hw:x", 1) == b"OK"


async def test_a_socket_of_this_machine(run: Run) -> None:
    server = run()
    async with linked(f"unix://{server.socket}?db=3") as links:
        assert await links.at(b"x").call("SET", "x", 1) == b"OK"
    assert server.ask("GET", "x", database=3) == b"1"
    server.kill()
    assert "cannot be reached" in await refusal(f"unix://{server.socket}")


async def test_a_database_that_is_not_there(run: Run) -> None:
    server = run(databases="4")
    assert "has no database 4" in await refusal(f"valkey://{HOST}:{server.port}/4")


async def test_a_store_that_loads_is_waited_for(run: Run) -> None:
    server = run(key_load_delay="3000", loading_process_events_interval_bytes="1024")
    with server.client() as client:
        for number in range(500):
            client.set(f"x{number}", "x" * 100)
        client.save()
    server.kill()
    server.start(wait=False)
    begun = time.monotonic()
    # Not longer than a store that is away: here it takes 1.5 s.
    async with linked(server.url) as links:
        assert await links.at(b"x1").call("GET", "x1") == b"x" * 100
    assert time.monotonic() - begun > 1


@contextmanager
def saying(text: bytes) -> Iterator[int]:
    """Run a server that says one thing to everything, and ends the connection."""

    async def told(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10000)
        writer.write(text)
        writer.close()

    listener = socket.create_server((HOST, 0))
    loop = asyncio.get_running_loop()
    server = loop.create_task(asyncio.start_server(told, sock=listener))
    try:
        yield listener.getsockname()[1]
    finally:
        server.result().close()


async def test_a_server_in_protected_mode() -> None:
    with saying(b"-DENIED Redis is running in protected mode because protected mode is enabled. ...\r\n") as port:
        assert "is in protected mode" in await refusal(f"valkey://{HOST}:{port}")


async def test_a_server_with_too_many_clients(run: Run) -> None:
    """It may have room in a moment, so that is tried again."""
    server = run(maxclients="4")
    with ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(server.client()).ping()
        assert "max number of clients reached" in await refusal(f"valkey://{HOST}:{server.port}")
    async with linked(server.url) as links:
        assert links.is_up


async def test_another_kind_of_server() -> None:
    with saying(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        assert "does not speak the protocol of Valkey" in await refusal(f"valkey://{HOST}:{port}")


async def test_a_server_that_is_too_old() -> None:
    error = b"-ERR unknown command `HELLO`, with args beginning with: `3`\r\n"
    with saying(error * 5) as port:
        assert "is too old. Headway needs Redis 7.0" in await refusal(f"valkey://{HOST}:{port}")
    hello = b"%7\r\n+server\r\n+redis\r\n+version\r\n+6.2.14\r\n+proto\r\n:3\r\n+id\r\n:1\r\n+mode\r\n+standalone\r\n"
    hello += b"+role\r\n+master\r\n+modules\r\n*0\r\n"
    with saying(hello + b"+OK\r\n+OK\r\n*2\r\n$1\r\n1\r\n$1\r\n2\r\n:0\r\n") as port:
        assert "is redis 6.2.14. Headway needs Redis 7.0" in await refusal(f"valkey://{HOST}:{port}")


@pytest.fixture
def tls(tmp_path: Path) -> Iterator[tuple[StoreServer, Path]]:
    """A redis-server with TLS alone. Its certificate is signed by itself."""
    options = tls_options(tmp_path)
    with serving(tmp_path / "tls", redis_binary(), **options) as server:
        yield server, Path(options["tls_ca_cert_file"])


async def test_tls(tls: tuple[StoreServer, Path]) -> None:
    server, certificate = tls
    async with linked(f"{server.url}?ca={certificate}") as links:
        calls = [links.at(b"x").call("ECHO", "x" * number) for number in range(1000)]
        assert [len(found) for found in await asyncio.gather(*calls)] == list(range(1000))
        heard = await links.at(b"x").subscribe(b"x")
        assert heard == 1
    server.ask("CONFIG", "SET", "tls-auth-clients", "yes")
    key = certificate.with_name("key.pem")
    async with linked(f"{server.url}?ca={certificate}&certificate={certificate}&key={key}") as links:
        assert links.is_up
    assert "cannot be reached" in await refusal(f"{server.url}?ca={certificate}")


async def test_tls_that_does_not_fit(tls: tuple[StoreServer, Path], store: StoreServer) -> None:
    server, certificate = tls
    said = await refusal(server.url)
    assert "the certificate of rediss://" in said
    assert "?ca=" in said
    other = f"rediss://localhost:{server.port}?ca={certificate}"
    assert "the certificate of" in await refusal(other)
    assert "rediss://" in await refusal(f"valkey://{HOST}:{server.port}")
    said = await refusal(f"rediss://{HOST}:{store.port}")
    # A store waits for the end of a line that looks like a command, or ends the connection.
    assert "as a port without TLS does (valkey://)" in said or "Without TLS it is valkey://" in said
    assert "cannot be read" in await refusal(f"{server.url}?ca=/nowhere.pem")
    assert "cannot be read" in await refusal(f"{server.url}?ca={certificate.with_name('key.pem')}")
