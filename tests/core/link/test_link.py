"""Calls by one connection, and what becomes of them when it is lost."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import uvloop
from headway.core.errors import ConfigError
from headway.core.link.address import Address
from headway.core.link.link import Link
from headway.core.link.reply_error import LinkLostError, ReplyError
from headway.core.link.script import Script

from tests.store_proxy import Way, way_to
from tests.valkey_servers import StoreServer, serving

ECHO = Script("echo", b"return {KEYS[1], ARGV[1]}")


class Heard:
    """What a link told."""

    def __init__(self) -> None:
        self.pushes: list[list[Any]] = []
        self.invalid: list[list[bytes] | None] = []
        self.up = asyncio.Event()
        self.lost = asyncio.Event()


@asynccontextmanager
async def linked(url: str, heard: Heard | None = None) -> AsyncIterator[Link]:
    heard = heard or Heard()
    link = Link(
        Address.of(url),
        "test",
        on_push=heard.pushes.append,
        on_invalid=heard.invalid.append,
        on_up=heard.up.set,
        on_lost=heard.lost.set,
    )
    await link.start()
    try:
        yield link
    finally:
        await link.close()


async def soon(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 — seen from outside
            await asyncio.sleep(0.002)


async def test_calls_of_a_turn_leave_in_one_write(store_url: str) -> None:
    async with linked(store_url) as link:
        await link.call("SET", "a", 0)
        before = await reads(link)
        found = await asyncio.gather(*(link.call("INCRBY", "a", 1) for _ in range(1000)))
        assert found == list(range(1, 1001))
        # The two INFO are reads, too. A thousand calls are 30 KB, which the server reads in a few pieces.
        assert await reads(link) - before < 20


async def reads(link: Link) -> int:
    said = await link.call("INFO", "stats")
    return int(said.partition(b"total_reads_processed:")[2].split()[0])


async def test_a_refused_call_raises_and_others_go_on(store_url: str) -> None:
    async with linked(store_url) as link:
        calls = link.call("SET", "a", "text"), link.call("INCRBY", "a", 1), link.call("GET", "a")
        found = await asyncio.gather(*calls, return_exceptions=True)
        assert isinstance(found[1], ReplyError)
        assert found[1].code == "ERR"
        assert (found[0], found[2]) == (b"OK", b"text")


async def test_a_script_is_given_to_a_store_that_does_not_know_it(store_url: str, store: StoreServer) -> None:
    async with linked(store_url) as link:
        store.ask("SCRIPT", "FLUSH")
        calls = [link.run(ECHO, [b"key"], number) for number in range(3)]
        assert await asyncio.gather(*calls) == [[b"key", b"%d" % number] for number in range(3)]
        assert await link.run(ECHO, [b"key"], "again") == [b"key", b"again"]


async def test_an_invalidation_comes_after_the_read_that_it_corrects(store_url: str, store: StoreServer) -> None:
    """So that a cache filled by the callback of a read never keeps what has changed since."""
    cache: dict[bytes, Any] = {}
    link = Link(Address.of(store_url), "test", on_invalid=lambda keys: [cache.pop(key, None) for key in keys or cache])
    await link.start()
    for number in range(100):
        future = link.read(b"h", b"n")
        future.when_told(lambda done: cache.update({b"h": done.result()}))
        # In the same turn, so both come in one piece.
        await link.call("HSET", "h", "n", number)
        await link.call("PING")
        assert cache == {}
    await link.close()


async def test_a_change_is_told_in_the_turn_of_the_loop_in_which_it_comes(store_url: str) -> None:
    """A client that asks in this turn may have learned of it from another node."""
    heard = Heard()
    async with linked(store_url, heard) as link:
        assert link.wire is not None
        link.wire.data_received(b">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nh\r\n")
        assert heard.invalid == [[b"h"]]


async def test_an_error_of_the_one_that_is_told_of_a_change_does_not_end_the_connection(store_url: str) -> None:
    said: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context["exception"]))
    link = Link(Address.of(store_url), "test", on_invalid=lambda keys: [keys].index([]))
    await link.start()
    assert link.wire is not None
    link.wire.data_received(b">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nh\r\n")
    assert await link.call("PING") == b"PONG"
    assert [type(error) for error in said] == [ValueError]
    await link.close()


async def test_a_read_is_tracked_until_its_key_changes(store_url: str) -> None:
    heard = Heard()
    async with linked(store_url, heard) as link, linked(store_url) as other:
        await other.call("HSET", "h", "a", 1)
        assert await link.read(b"h", b"a", b"b") == [b"1", None]
        await other.call("HSET", "h", "a", 2)
        await soon(lambda: heard.invalid == [[b"h"]])
        # Not tracked any more: it was not read again.
        await other.call("HSET", "h", "a", 3)
        await link.call("GET", "x")
        await other.call("SET", "x", 3)
        await link.call("PING")
        assert heard.invalid == [[b"h"]]


async def test_a_read_that_the_store_will_not_track_ends_the_connection(tmp_path: Path) -> None:
    """No push would ever correct it."""
    heard = Heard()
    with serving(tmp_path) as server:
        async with linked(server.url, heard) as link:
            server.ask("HSET", "h", "a", 1)
            assert await link.read(b"h", b"a") == [b"1"]
            server.ask("ACL", "SETUSER", "default", "-client|caching")
            with suppress(LinkLostError):
                await link.read(b"h", b"a")
            await soon(lambda: None in heard.invalid)
            server.ask("ACL", "SETUSER", "default", "+client|caching")
            await soon(lambda: link.made > 1 and link.is_up)
            assert await link.read(b"h", b"a") == [b"1"]


async def test_messages_come_again_after_the_connection_was_lost(store_url: str) -> None:
    heard = Heard()
    async with linked(store_url, heard) as link, linked(store_url) as other:
        await link.subscribe(b"test:messages")
        await other.call("SPUBLISH", "test:messages", "one")
        await soon(lambda: heard.pushes == [[b"smessage", b"test:messages", b"one"]])
        heard.up.clear()
        await other.call("CLIENT", "KILL", "ID", await link.call("CLIENT", "ID"))
        await heard.up.wait()
        assert await link.call("ECHO", "x") == b"x"
        await other.call("SPUBLISH", "test:messages", "two")
        await soon(lambda: heard.pushes[1:] == [[b"smessage", b"test:messages", b"two"]])
        link.unsubscribe(b"test:messages")
        await link.call("PING")
        await other.call("SPUBLISH", "test:messages", "three")
        await link.call("PING")
        assert len(heard.pushes) == 2


async def test_long_replies_do_not_cut_a_link_that_hears_messages(store_url: str) -> None:
    """A server cuts a connection with subscriptions once 32 MB of replies wait on it."""
    async with linked(store_url) as link:
        await link.subscribe(b"test:long")
        await link.call("SET", "long", b"x" * (40 << 20))
        assert len(await link.call("GET", "long")) == 40 << 20
        await link.call("DEL", "long")
        assert link.made == 1


@pytest.mark.long
def test_all_of_it_runs_on_uvloop(store_url: str, store: StoreServer) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner, way_to(store.port) as way:
        runner.run(test_calls_of_a_turn_leave_in_one_write(store_url))
        runner.run(test_messages_come_again_after_the_connection_was_lost(store_url))
        runner.run(test_a_lost_call_says_whether_it_was_sent(store_url))
        runner.run(test_a_reply_that_is_cut_goes_to_nobody(way))
        runner.run(test_a_parted_network_is_noticed_and_joined_again(way))


async def test_a_lost_call_says_whether_it_was_sent(store_url: str) -> None:
    heard = Heard()
    async with linked(store_url, heard) as link, linked(store_url) as other:
        number = await link.call("CLIENT", "ID")
        stuck = link.call("BLPOP", "nothing", 0)
        await asyncio.sleep(0.01)
        killed = other.call("CLIENT", "KILL", "ID", number)
        with pytest.raises(LinkLostError) as lost:
            await stuck
        assert lost.value.sent
        assert await killed == 1
        with pytest.raises(LinkLostError) as lost:
            await link.call("PING")
        assert not lost.value.sent
        await heard.lost.wait()
        assert heard.invalid == [None]
        await soon(lambda: link.is_up)
        assert await link.call("ECHO", "x") == b"x"
        assert link.made == 2
        # Calls of a turn leave at its end. This one is lost before, the other one had left.
        calls = [link.call("SET", "left", 1)]
        await asyncio.sleep(0)
        calls.append(link.call("SET", "stayed", 1))
        link.drop("a test")
        found = await asyncio.gather(*calls, return_exceptions=True)
        assert [error.sent for error in found if isinstance(error, LinkLostError)] == [True, False]


async def test_cancelled_callers_never_shift_replies(store_url: str) -> None:
    """V15: 100,000 callers go between the call and its reply, and each other caller gets its own."""
    async with linked(store_url) as link:
        for turn in range(200):
            gone = [link.call("ECHO", f"gone {turn} {number}") for number in range(250)]
            kept = [link.call("ECHO", f"kept {turn} {number}") for number in range(10)]
            late = [link.call("ECHO", f"late {turn} {number}") for number in range(250)]
            for future in gone:
                future.cancel()
            await asyncio.sleep(0)
            for future in late:
                future.cancel()
            assert await asyncio.gather(*kept) == [b"kept %d %d" % (turn, number) for number in range(10)]


@pytest.fixture
def way(store: StoreServer) -> Any:
    with way_to(store.port) as way:
        yield way


async def test_a_reply_that_is_cut_goes_to_nobody(way: Way) -> None:
    heard = Heard()
    async with linked(way.url, heard) as link:
        await link.call("SET", "long", "x" * 1000)
        way.cut_after(500)
        with pytest.raises(LinkLostError):
            await link.call("GET", "long")
        heard.up.clear()
        await soon(lambda: link.is_up)
        assert await link.call("GET", "long") == b"x" * 1000
        await link.call("DEL", "long")


@pytest.mark.long
async def test_a_parted_network_is_noticed_and_joined_again(way: Way) -> None:
    """Without a call under way, too: a cache would answer from before for ever."""
    heard = Heard()
    async with linked(way.url, heard) as link:
        await link.call("PING")
        way.part()
        async with asyncio.timeout(6):
            await heard.lost.wait()
        assert heard.invalid == [None]
        with pytest.raises(LinkLostError):
            await link.call("PING")
        assert link.why
        heard.up.clear()
        way.heal()
        async with asyncio.timeout(6):
            await heard.up.wait()
        assert await link.call("ECHO", "x") == b"x"


@pytest.mark.long
async def test_an_idle_link_stays(store_url: str) -> None:
    """It asks for a sign of the store, and takes no silence of its own for one of the network."""
    async with linked(store_url) as link:
        await asyncio.sleep(5.5)
        assert link.made == 1


@pytest.mark.long
async def test_a_slow_network_is_not_a_parted_one(way: Way) -> None:
    way.delay(0.4)
    heard = Heard()
    async with linked(way.url, heard) as link:
        begun = asyncio.get_running_loop().time()
        found = await asyncio.gather(*(link.call("ECHO", number) for number in range(1000)))
        assert found == [b"%d" % number for number in range(1000)]
        # All of them by one way there and back.
        assert asyncio.get_running_loop().time() - begun < 1.6
        assert not heard.lost.is_set()


async def test_a_start_that_finds_nobody_says_so_in_one_line() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"valkey://me:secret@127.0.0.1:{nobody.getsockname()[1]}/0"
        with pytest.raises(ConfigError, match=r"^engine: valkey://me:\*\*\*@127.0.0.1:\d+/0 cannot be reached: .*$"):
            await Link(Address.of(url), "test").start(patience_s=0.1)
