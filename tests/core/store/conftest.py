"""The stores on which the scripts are tested: Valkey, and Redis where it is installed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
import redis

from tests.core.store.partition import Partition
from tests.valkey_servers import StoreServer, redis_binary, serving

BINARIES = {"valkey": lambda: "", "redis": redis_binary}


@pytest.fixture(scope="session")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, StoreServer]]:
    """The servers that were needed so far."""
    with ExitStack() as stack:
        started: dict[str, StoreServer] = {}

        class Started(dict[str, StoreServer]):
            def __missing__(self, kind: str) -> StoreServer:
                folder = tmp_path_factory.mktemp(kind)
                self[kind] = stack.enter_context(serving(folder, BINARIES[kind]()))
                return self[kind]

        started = Started()
        yield started


@pytest.fixture(params=["valkey", pytest.param("redis", marks=pytest.mark.long)])
def own_store(request: pytest.FixtureRequest, stores: dict[str, StoreServer]) -> Iterator[StoreServer]:
    """An empty server that no other test uses meanwhile."""
    server = stores[request.param]
    yield server
    server.ask("CONFIG", "SET", "maxmemory", "0")
    server.ask("FLUSHALL")


@pytest.fixture
def client(own_store: StoreServer) -> Iterator[redis.Redis]:
    """A client of an empty server."""
    with own_store.client() as made:
        yield made


@pytest.fixture
def partition(client: redis.Redis) -> Partition:
    """A partition with nothing in it."""
    return Partition(client)
