"""Refusals of real servers, told apart."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from headway.core.errors import EngineAwayError, EngineFullError
from headway.core.link.address import Address
from headway.core.link.link import Link
from headway.core.link.reply_error import LinkLostError, ReplyError, StoreError, raise_for_caller
from headway.core.link.script import Script

from tests.valkey_servers import StoreServer, redis_binary, serving

WRITE = Script("write", b"redis.call('HDEL', KEYS[1], 'x') return redis.call('HSET', KEYS[1], 'x', ARGV[1])")
PLAIN = Script("plain", b"return redis.call('HSET', KEYS[1], 'x', ARGV[1])")


@asynccontextmanager
async def linked(url: str) -> AsyncIterator[Link]:
    link = Link(Address.of(url), "test")
    await link.start()
    try:
        yield link
    finally:
        await link.close()


async def refusal(call: asyncio.Future[object]) -> ReplyError:
    with pytest.raises(ReplyError) as refused:
        await call
    return refused.value


@pytest.mark.parametrize("binary", [str, redis_binary], ids=["valkey", "redis"])
async def test_a_full_store(binary: Callable[[], str], tmp_path: Path) -> None:
    """V12: a script whose first write frees memory passes. It is so that attempts end on a full store."""
    with serving(tmp_path, binary()) as server:
        async with linked(server.url) as link:
            await link.call("SET", "long", "x" * 1_000_000)
            server.ask("CONFIG", "SET", "maxmemory", "100kb")
            for call in (link.call("SET", "a", 1), link.run(PLAIN, [b"h"], 1)):
                error = await refusal(call)
                assert error.code == "OOM"
                with pytest.raises(EngineFullError):
                    raise_for_caller(error)
            assert await link.run(WRITE, [b"h"], 1) == 1
            assert await link.read(b"h", b"x") == [b"1"]
            await link.call("DEL", "long")
            server.ask("CONFIG", "SET", "maxmemory", "100mb")
            assert await link.call("SET", "a", 1) == b"OK"


@pytest.mark.parametrize("binary", [str, redis_binary], ids=["valkey", "redis"])
async def test_a_store_that_cannot_write_its_file_is_away(binary: Callable[[], str], tmp_path: Path) -> None:
    with serving(tmp_path / "store", binary(), save="3600 1000000") as server:
        async with linked(server.url) as link:
            # A save that fails, as on a full disk.
            (tmp_path / "store" / "dump.rdb").mkdir()
            server.ask("BGSAVE")
            await asyncio.to_thread(_failed, server)
            error = await refusal(link.call("SET", "a", 1))
            assert error.code == "MISCONF"
            with pytest.raises(EngineAwayError):
                raise_for_caller(error)
            assert link.is_up


def _failed(server: StoreServer) -> None:
    end = time.monotonic() + 10
    while server.ask("INFO", "persistence")["rdb_last_bgsave_status"] == "ok":
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize("code", ["LOADING", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "NOREPLICAS", "BUSY"])
def test_a_store_that_serves_nobody_for_now_is_away(code: str) -> None:
    with pytest.raises(EngineAwayError) as away:
        raise_for_caller(ReplyError(f"{code} for some reason"))
    assert 1 <= away.value.retry_after_s <= 3


@pytest.mark.parametrize("sent", [True, False])
def test_a_lost_link_is_a_store_that_is_away(sent: bool) -> None:
    with pytest.raises(EngineAwayError):
        raise_for_caller(LinkLostError(sent))


@pytest.mark.parametrize("text", ["ERR syntax error", "WRONGTYPE Operation against", "NOPERM no permissions"])
def test_all_else_is_a_defect(text: str) -> None:
    with pytest.raises(StoreError, match=text):
        raise_for_caller(ReplyError(text))


def test_clients_come_back_at_different_times() -> None:
    assert len({EngineAwayError().retry_after_s for _ in range(20)}) > 10


async def test_the_time_is_that_of_the_store(store_url: str) -> None:
    """V16: whatever the clock of this machine says."""
    async with linked(store_url) as link:
        seconds, micros = await link.call("TIME")
        assert abs(link.server_ms() - (int(seconds) * 1000 + int(micros) // 1000)) < 500
        link.learn_time(1_000_000)
        await asyncio.sleep(0.05)
        assert 1_000_040 <= link.server_ms() <= 1_001_000


async def test_a_refused_command_is_not_repeated(store: StoreServer) -> None:
    async with linked(f"valkey://127.0.0.1:{store.port}/0") as link:
        error = await refusal(link.call("HW-UNKNOWN", "a secret"))
        assert error.code == "ERR"
        assert "secret" not in error.text
